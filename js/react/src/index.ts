export * from '@safelight/client';
export { type Canvas, type NodeTiles, useCanvas, useNodeTiles, useResults } from './canvas';
export {
  type SafelightProps,
  SafelightProvider,
  type Toasts,
  useProject,
  useStore,
} from './context';
export { type GenerateCallbacks, type GenerateOptions, type Generating, useGeneration } from './generation';
export {
  type Asked,
  useCounts,
  useCredits,
  useGenerations,
  useInput,
  useJobs,
  useModels,
  useTemplates,
  useTrace,
  useWallet,
} from './lists';
export { type NodeView, useNode } from './node';
export { type Queue, useQueue, useRunning } from './queue';
export { type Realtime, useRealtime } from './realtime';
export { type Shots, useShots } from './shots';
export { type Gallery, type GalleryView, useGallery } from './tiles';
