/** Generated from the server by `npm run api` (see openapi/generate.mjs); a browser test says when it is stale. */

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** Generation */
        readonly Generation: {
            /** Bytes */
            readonly bytes: number;
            /**
             * Created At
             * Format: date-time
             */
            readonly created_at: string;
            /** Deleted At */
            readonly deleted_at: string | null;
            /** Duration S */
            readonly duration_s: number | null;
            /** Height */
            readonly height: number | null;
            /**
             * Id
             * Format: uuid
             */
            readonly id: string;
            /**
             * Job Id
             * Format: uuid
             */
            readonly job_id: string;
            /**
             * Kind
             * @enum {string}
             */
            readonly kind: "image" | "video" | "audio";
            /** Mime */
            readonly mime: string;
            /** Model */
            readonly model: string;
            /** Output Index */
            readonly output_index: number;
            /**
             * Project Id
             * Format: uuid
             */
            readonly project_id: string;
            /** Prompt */
            readonly prompt: string | null;
            /** Shots */
            readonly shots: readonly components["schemas"]["ShotPlace"][];
            /** Starred */
            readonly starred: boolean;
            /** Thumbhash */
            readonly thumbhash: string | null;
            readonly urls: components["schemas"]["Urls"];
            /** Width */
            readonly width: number | null;
        };
        /** Job */
        readonly Job: {
            /** Attempt */
            readonly attempt: number;
            /** Cancel Requested At */
            readonly cancel_requested_at: string | null;
            /** Completed At */
            readonly completed_at: string | null;
            /**
             * Created At
             * Format: date-time
             */
            readonly created_at: string;
            readonly credits: components["schemas"]["JobCredits"];
            /**
             * Deadline At
             * Format: date-time
             */
            readonly deadline_at: string;
            readonly error: components["schemas"]["JobErrorOut"] | null;
            /** Generations */
            readonly generations: readonly string[];
            /**
             * Id
             * Format: uuid
             */
            readonly id: string;
            /** Input */
            readonly input: {
                readonly [key: string]: unknown;
            };
            /**
             * Kind
             * @enum {string}
             */
            readonly kind: "image" | "video" | "audio";
            /**
             * Left Out
             * @description `input`: above 64 kB, so files and endless texts in it are cut here; read the job for all of it
             */
            readonly left_out?: readonly "input"[];
            /** Metadata */
            readonly metadata: {
                readonly [key: string]: unknown;
            };
            /** Model */
            readonly model: string;
            /** N */
            readonly n: number;
            /** Priority */
            readonly priority: number;
            readonly progress: components["schemas"]["Progress"];
            /**
             * Project Id
             * Format: uuid
             */
            readonly project_id: string;
            /** Provider */
            readonly provider: string;
            /**
             * Stage
             * @enum {string}
             */
            readonly stage: "queued" | "submitting" | "submitted" | "running" | "storing" | "unknown" | "completed" | "failed" | "canceled" | "expired";
            /** Start */
            readonly start: string | null;
            /**
             * Status
             * @enum {string}
             */
            readonly status: "pending" | "processing" | "completed" | "failed" | "canceled";
            /** Submitted At */
            readonly submitted_at: string | null;
            /** Tags */
            readonly tags: readonly string[];
            /** Target */
            readonly target: {
                readonly [key: string]: unknown;
            } | null;
            /** Template */
            readonly template: string | null;
            /** Variables */
            readonly variables: {
                readonly [key: string]: unknown;
            } | null;
        };
        /** JobCounts */
        readonly JobCounts: {
            /** Canceled */
            readonly canceled: number;
            /** Completed */
            readonly completed: number;
            /** Failed */
            readonly failed: number;
            /** Pending */
            readonly pending: number;
            /** Processing */
            readonly processing: number;
        };
        /** JobCredits */
        readonly JobCredits: {
            /** Charged */
            readonly charged: number | null;
            /** Quoted */
            readonly quoted: number;
        };
        /** JobErrorOut */
        readonly JobErrorOut: {
            /** Code */
            readonly code: string;
            /** Message */
            readonly message: string;
            readonly provider: components["schemas"]["ProviderSaid"];
            /** Retryable */
            readonly retryable: boolean;
        };
        /** Progress */
        readonly Progress: {
            /**
             * Eta S
             * @description Seconds probably left, from the model's history
             */
            readonly eta_s: number | null;
            /** Message */
            readonly message: string | null;
            /**
             * Percent
             * @description 0 to 100, only where the provider says it
             */
            readonly percent: number | null;
            /** Queue Position */
            readonly queue_position: number | null;
        };
        /** Project */
        readonly Project: {
            /**
             * Created At
             * Format: date-time
             */
            readonly created_at: string;
            /**
             * Id
             * Format: uuid
             */
            readonly id: string;
            /** Name */
            readonly name: string;
            /**
             * Role
             * @description What you are in it
             * @enum {string}
             */
            readonly role: "viewer" | "editor" | "owner" | "admin";
        };
        /** ProviderSaid */
        readonly ProviderSaid: {
            /** Body */
            readonly body: unknown;
            /** Name */
            readonly name: string;
            /** Status */
            readonly status: number | null;
        };
        /** Quote */
        readonly Quote: {
            /** Credits */
            readonly credits: number;
        };
        /** Session */
        readonly Session: {
            /** Project Id */
            readonly project_id: string | null;
            /** Projects */
            readonly projects: readonly {
                readonly [key: string]: unknown;
            }[];
            /** User */
            readonly user: {
                readonly [key: string]: unknown;
            };
        };
        /** ShotPlace */
        readonly ShotPlace: {
            /** Position */
            readonly position: string | null;
            /**
             * Shot Id
             * Format: uuid
             */
            readonly shot_id: string;
        };
        /**
         * SubmitBody
         * @description Either `model` and `input`, or `template` and `variables`.
         */
        readonly SubmitBody: {
            /** Deadline S */
            readonly deadline_s?: number | null;
            /**
             * Id
             * @description The job's id if you choose it (UUID v7 advised): safe to send again
             */
            readonly id?: string | null;
            /** Input */
            readonly input?: {
                readonly [key: string]: unknown;
            };
            /** Metadata */
            readonly metadata?: {
                readonly [key: string]: unknown;
            };
            /** Model */
            readonly model?: string | null;
            /**
             * N
             * @default 1
             */
            readonly n: number;
            /**
             * Priority
             * @default 0
             */
            readonly priority: number;
            /** Provider */
            readonly provider?: string | null;
            /**
             * Start
             * @description An upload's or a generation's id
             */
            readonly start?: string | null;
            /** Tags */
            readonly tags?: readonly string[];
            readonly target?: components["schemas"]["Target"] | null;
            /** Template */
            readonly template?: string | null;
            /** Variables */
            readonly variables?: {
                readonly [key: string]: string | number | boolean;
            } | null;
            /** Webhook Url */
            readonly webhook_url?: string | null;
        };
        /**
         * Target
         * @description Where the results go: into a shot (at a position, or unpositioned) or onto a canvas node (J9).
         */
        readonly Target: {
            /** Node Id */
            readonly node_id?: string | null;
            /** Position */
            readonly position?: string | null;
            /** Shot Id */
            readonly shot_id?: string | null;
        };
        /** Trace */
        readonly Trace: {
            /**
             * Job Id
             * Format: uuid
             */
            readonly job_id: string;
            /**
             * Said
             * @description In words: how far the chain came, and where it stands
             */
            readonly said: string;
            /**
             * Stage
             * @enum {string}
             */
            readonly stage: "queued" | "submitting" | "submitted" | "running" | "storing" | "unknown" | "completed" | "failed" | "canceled" | "expired";
            /** Steps */
            readonly steps: readonly components["schemas"]["TraceStep"][];
        };
        /** TraceStep */
        readonly TraceStep: {
            /**
             * At
             * Format: date-time
             */
            readonly at: string;
            /** Attempt */
            readonly attempt: number;
            /** Detail */
            readonly detail: {
                readonly [key: string]: unknown;
            } | null;
            /** Step */
            readonly step: string;
        };
        /** Urls */
        readonly Urls: {
            /** Original */
            readonly original: string;
            /** Poster */
            readonly poster: string | null;
            /** Thumbs */
            readonly thumbs: {
                readonly [key: string]: string;
            };
        };
        /** Wallet */
        readonly Wallet: {
            /** Available */
            readonly available: number;
            /** Balance */
            readonly balance: number;
            /** Held */
            readonly held: number;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
