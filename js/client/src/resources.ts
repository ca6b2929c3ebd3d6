/** The shapes of the public contract (`/v1`), as the server sends them. Times are RFC 3339 in UTC. */

export type JobStatus = 'pending' | 'processing' | 'completed' | 'failed' | 'canceled';
export type Kind = 'image' | 'video' | 'audio';

export interface Progress {
  /** 0–100, only where the provider says it. */
  readonly percent: number | null;
  readonly queue_position: number | null;
  /** Seconds still to go, from the provider or learnt from the model's history. */
  readonly eta_s: number | null;
  readonly message: string | null;
}

export interface JobError {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

export interface Job {
  readonly id: string;
  readonly project_id: string;
  readonly status: JobStatus;
  readonly stage: string;
  readonly model: string;
  readonly provider: string | null;
  readonly attempt: number;
  readonly input: Readonly<Record<string, unknown>>;
  /** `input`: it is large, and files in it are cut here; `wholeJob` has all of it. */
  readonly left_out?: readonly 'input'[];
  readonly n: number;
  readonly progress: Progress | null;
  readonly credits: { readonly quoted: number | null; readonly charged: number | null } | null;
  readonly error: JobError | null;
  readonly generations: readonly string[];
  readonly kind?: Kind;
  readonly target?: Target | null;
  readonly template?: string | null;
  readonly tags?: readonly string[];
  readonly deadline_at?: string;
  readonly cancel_requested_at?: string | null;
  readonly created_at: string;
  readonly submitted_at: string | null;
  readonly completed_at: string | null;
}

export interface Generation {
  readonly id: string;
  readonly project_id: string;
  readonly job_id: string | null;
  readonly output_index: number;
  readonly kind: Kind;
  readonly mime: string;
  readonly width: number | null;
  readonly height: number | null;
  readonly duration_s: number | null;
  readonly bytes: number | null;
  readonly thumbhash: string | null;
  readonly urls: {
    readonly original: string;
    readonly poster?: string | null;
    readonly thumbs?: Readonly<Record<string, string>> | null;
  };
  readonly starred: boolean;
  /** The shots it is in, and where; position null: in the shot, in no order. */
  readonly shots?: readonly ShotPlace[];
  readonly prompt: string | null;
  readonly model: string | null;
  readonly created_at: string;
  readonly deleted_at: string | null;
}

export interface ShotPlace {
  readonly shot_id: string;
  /** Fractional index: compares as text. */
  readonly position: string | null;
}

export interface ShotCounts {
  readonly total: number;
  readonly unpositioned: number;
  readonly videos: number;
}

export interface Shot {
  readonly id: string;
  readonly project_id: string;
  readonly name: string;
  readonly position: string;
  readonly created_at: string;
  readonly counts: ShotCounts;
}

/** Where results go: into a shot, or onto a canvas node (J9). */
export interface Target {
  readonly shot_id?: string;
  readonly node_id?: string;
  readonly position?: string | null;
}

/** A node of the canvas (U5). What it shows is `data.generation_id`; the rest of `data` is the app's own. */
export interface CanvasNode {
  readonly id: string;
  readonly project_id: string;
  readonly type: string;
  readonly x: number;
  readonly y: number;
  readonly width: number | null;
  readonly height: number | null;
  readonly data: Readonly<Record<string, unknown>>;
  readonly created_at: string;
  readonly updated_at: string;
}

export interface CanvasEdge {
  readonly id: string;
  readonly project_id: string;
  readonly source: string;
  readonly target: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly created_at: string;
}

export interface JobCounts {
  readonly pending: number;
  readonly processing: number;
  readonly completed: number;
  readonly failed: number;
  readonly canceled: number;
}

export interface Template {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly model: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly start: string | null;
  readonly variables: readonly string[];
}

export interface CreditEntry {
  readonly id: number;
  readonly at: string;
  readonly reason: string;
  readonly amount: number;
  readonly job_id: string | null;
  readonly note: string | null;
  readonly balance: number;
  readonly available: number;
}

export interface TraceStep {
  readonly step: string;
  readonly at: string;
  readonly attempt: number;
  readonly detail: Readonly<Record<string, unknown>> | null;
}

export interface Trace {
  readonly job_id: string;
  readonly stage: string;
  readonly steps: readonly TraceStep[];
  readonly said: string;
}

export interface Wallet {
  readonly balance: number;
  readonly held: number;
  readonly available: number;
}

export type FieldType = 'text' | 'int' | 'number' | 'select' | 'image' | 'bool';

/** One input of a model: enough to draw its form. */
export interface ModelField {
  readonly name: string;
  readonly type: FieldType;
  readonly label: string;
  readonly required?: boolean;
  readonly default?: string | number | boolean;
  readonly options?: readonly (string | number)[];
  readonly min?: number;
  readonly max?: number;
  readonly max_length?: number;
  readonly advanced?: boolean;
  readonly help?: string;
}

export interface Model {
  readonly id: string;
  readonly name: string;
  readonly provider: string;
  readonly kind: Kind;
  readonly description: string;
  readonly price: { readonly unit: string; readonly amount: number };
  readonly max_outputs: number;
  readonly fields: readonly ModelField[];
  /** The image field that a job's `start` goes into. */
  readonly start_field: string | null;
  readonly needs_start: boolean;
  /** Learnt from history, in seconds. */
  readonly eta_s: number;
  /** False where the provider's key is missing. */
  readonly enabled: boolean;
}

export interface Session {
  /** Where the page begins; null for somebody who may open none. */
  readonly project_id: string | null;
  readonly projects: readonly { readonly id: string; readonly name: string }[];
  readonly user: {
    readonly id: string | null;
    readonly name: string;
    readonly role: string | null;
    /** The operator named them: the kill switch is theirs to work (S8). */
    readonly may_set_flags?: boolean;
  };
}

/** What is POSTed to make a job. The id is ours, so the tile is known before the answer (J2, F3). */
export interface JobRequest {
  readonly id: string;
  readonly model: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly n: number;
  readonly start?: string | null;
  readonly target?: Target;
  readonly template?: string;
  readonly variables?: Readonly<Record<string, string | number | boolean>>;
}

export type Table = 'jobs' | 'generations' | 'credits' | (string & {});

/** One entry of the project's change log (S1). `row` has the shape of the API resource of that table. */
export interface Change {
  readonly seq: number;
  readonly at: string;
  readonly table: Table;
  readonly op: 'insert' | 'update' | 'delete';
  readonly id: string;
  readonly row: unknown;
  readonly old: unknown;
  readonly keys: readonly (readonly unknown[])[];
  readonly origin?: string | null;
}

export interface ChangePage {
  readonly epoch: string;
  readonly head: number;
  readonly changes: readonly Change[];
}

/** Progress that is pushed but not logged: a hint, never needed for correctness. */
export interface ProgressNote extends Progress {
  readonly job_id: string;
}

export interface ClientConfig {
  readonly realtime_enabled?: boolean;
  readonly legacy_listeners_enabled?: boolean;
  readonly invalidation?: { readonly flush_ms?: number; readonly delete_flush_ms?: number };
  readonly deadmode_force_polling_ms?: number | null;
  readonly heartbeat_ms?: number;
  /** Of the server. */
  readonly version?: string;
  /** The server's time when it answered. */
  readonly now?: string;
}

export const isUnfinished = (job: Job): boolean => job.status === 'pending' || job.status === 'processing';
