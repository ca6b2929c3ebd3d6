import type { CanvasMutations, Model, Tile } from '@safelight/react';
import { createContext, useContext } from 'react';
import type { Making } from './making';
import type { Typing } from './typing';

/** What every node may do, and what it may know of the rest. */
export interface Board {
  readonly acts: CanvasMutations;
  readonly making: Making;
  readonly typing: Typing;
  readonly models: readonly Model[];
  /** All results are here: a node that shows none has none. */
  readonly settled: boolean;
  readonly onOpen: (tile: Tile) => void;
}

export const BoardContext = createContext<Board | null>(null);

export function useBoard(): Board {
  const board = useContext(BoardContext);
  if (board === null) throw new Error('used outside of the canvas');
  return board;
}
