import type { Api } from './api';
import type { Cache } from './cache';
import type { CanvasMutations } from './canvasMutations';
import type { FeedSnapshot } from './feedShape';
import type { Freshness } from './freshness';
import type { Holdings } from './holdings';
import type { Mutations } from './mutations';
import type { Page as Surroundings } from './page';
import type { Rule } from './patch';
import type { Draft } from './placeholders';
import type { ClientConfig, Generation, Job, JobRequest, Progress } from './resources';
import type { Scheduler } from './scheduler';
import type { Store } from './store';
import type { Role } from './tabs';
import type { Telemetry } from './telemetry';

/** Everything of one project that this window knows: the cache, the feed that keeps it true, and what a person may do. */

export interface Local {
  readonly drafts: readonly Draft[];
  /** Generation ids whose row was ever here. */
  readonly arrived: ReadonlySet<string>;
  /** Jobs whose failed or canceled tiles were put away. */
  readonly dismissed: ReadonlySet<string>;
  readonly canceling: ReadonlySet<string>;
  readonly retrying: ReadonlySet<string>;
}

/** Progress and the moment (ms) we heard it: an ETA counts down from there. */
export interface Heard {
  readonly progress: Progress;
  readonly at: number;
}

export type News =
  | { readonly kind: 'finished'; readonly generation: Generation }
  | { readonly kind: 'completed'; readonly job: Job }
  | { readonly kind: 'failed'; readonly job: Job }
  | { readonly kind: 'canceled'; readonly job: Job }
  | { readonly kind: 'refused'; readonly draft: Draft }
  /** F9: it takes long; it goes on, and will be in the library. */
  | { readonly kind: 'late'; readonly jobId: string };

/** What `window.__SAFELIGHT__` tells whoever looks (D5). Times in ms since 1970. */
export interface Snapshot extends FeedSnapshot {
  readonly role: Role;
  readonly tab: string;
  /** Age of the last proof of every family, ms. */
  readonly freshness: Readonly<Record<string, number | null>>;
  /** Jobs submitted here whose row has not come yet. */
  readonly pending: readonly string[];
  /** Everything that waits for its time, soonest first. */
  readonly timers: readonly { readonly name: string; readonly dueAt: number }[];
  readonly config: ClientConfig;
  /** Server's clock minus ours, ms. */
  readonly clockOffsetMs: number;
}

export interface Project {
  readonly project: string;
  readonly api: Api;
  readonly local: Store<Local>;
  readonly heard: Store<ReadonlyMap<string, Heard>>;
  readonly pulse: Store<FeedSnapshot>;
  readonly freshness: Store<Freshness>;
  readonly telemetry: Telemetry;
  readonly mutations: Mutations;
  readonly canvas: CanvasMutations;
  readonly scheduler: Scheduler;
  onNews(listener: (news: News) => void): () => void;
  /** Starts to follow; the returned function ends it, for good. */
  open(): () => void;
  recover(): void;
  /** The tile is there before this returns. Submitted again under the same id, it is the same job. */
  submit(request: JobRequest): void;
  retry(jobId: string): Promise<void>;
  cancel(jobId: string): Promise<void>;
  dismiss(jobId: string): void;
  /** Reads one result anew, for addresses that are signed again. */
  renew(id: string): Promise<void>;
  /** Reads a list so that it is as new as everything we heard, whatever came while it was on its way. */
  readonly readList: Holdings['readList'];
  /** The next page of a list of results; `path` ends with `?` or `&`. */
  loadMore(key?: readonly unknown[], path?: string, rule?: Rule<Generation>): Promise<void>;
  /** A result is on the screen (D2). */
  painted(row: Generation): void;
  serverNow(): number;
  role(): Role;
  snapshot(): Snapshot;
}

export interface ProjectOptions {
  readonly api: Api;
  readonly project: string;
  readonly cache: Cache;
  readonly page: Surroundings;
  /** `ws://…/realtime/v1`; absent: beside the API. Null: no socket. */
  readonly realtimeUrl?: string | null;
  readonly apikey?: string;
  /** Tabs of different people must not follow each other. */
  readonly who?: string;
}
