import { createContext, useContext } from 'react';
import type { Darkroom } from './darkroom';

const Room = createContext<Darkroom | null>(null);

export const RoomProvider = Room.Provider;

export function useRoom(): Darkroom {
  const room = useContext(Room);
  if (room === null) throw new Error('outside of a project');
  return room;
}
