export { type Answer, type Api, type ApiOptions, createApi, parseSeq } from './api';
export { LATE_MS } from './awaiting';
export { type Cache, createCache } from './cache';
export { resultOf, tileOfNode } from './canvas';
export type { CanvasMutations, NewEdge, NewNode } from './canvasMutations';
export { AUTH_HEAL, askToHeal, onHeal, TASK_NEW, TASK_UPDATE } from './domEvents';
export { createFeed } from './feed';
export type { Feed, FeedSnapshot, Mode } from './feedShape';
export { FAMILIES, type Family, type Freshness } from './freshness';
export { generationId, generationIds, newJobId } from './generationId';
export { keys } from './keys';
export type { Mutations } from './mutations';
export { overlay } from './optimism';
export { inOrder, type OrderKeys, orderKeys } from './order';
export { barePage, browserPage, type Keep, type Page as Surroundings, thisPage } from './page';
export {
  EDGES,
  GENERATIONS,
  inShot,
  JOBS,
  type List,
  listOf,
  type Narrowing,
  NODES,
  narrowedTo,
  type Page,
  placeIn,
  type Rule,
  SHOTS,
} from './patch';
export { type CountsAt, patched, type WalletAt } from './patcher';
export {
  type Draft,
  type Layers,
  layersOf,
  type Tile,
  type TileState,
  tilesOf,
} from './placeholders';
export { Problem, readProblem, Unreachable } from './problem';
export { createProject } from './project';

export type { Heard, Local, News, Project, ProjectOptions, Snapshot } from './projectShape';
export * from './resources';
export { NO_SEQS, type Seqs, seqOf } from './seqs';
export { exposeSnapshot } from './snapshot';
export { added, createStore, removed, type Store } from './store';
export type { Outcome, Trouble } from './submission';
export type { Role } from './tabs';
export { type Age, serverAge, VERSION } from './version';
export { isWhole, wholeJob } from './wholeJob';
