export { type Answer, type Api, createApi, parseSeq } from './api';
export { createFeed, type Feed, type FeedSnapshot, type Mode } from './feed';
export { generationId, generationIds, newJobId } from './generationId';
export { keys } from './keys';
export { inOrder, type OrderKeys, orderKeys } from './order';
export {
  appendPage,
  GENERATIONS,
  JOBS,
  type List,
  listOf,
  type Page,
  patchList,
  putRow,
  removeRow,
  renewRow,
} from './patch';
export {
  type Draft,
  type Layers,
  layersOf,
  overdue,
  type Tile,
  type TileState,
  tilesOf,
} from './placeholders';
export { Problem, readProblem, Unreachable } from './problem';
export * from './resources';
export { type Outcome, submitJob, type Trouble, troubleOf } from './submission';
