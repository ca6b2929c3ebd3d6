/** The only place where query keys are made (F1, api.md "Keys"). */
export const keys = {
  jobs: (project: string) => ['tasks', project] as const,
  jobList: (project: string, filter: object) => ['tasks', project, filter] as const,
  counts: (project: string) => ['task-status-counts', project] as const,
  shots: (project: string) => ['shots', project] as const,
  shot: (shot: string) => ['unified-generations', 'shot', shot] as const,
  /** A narrowed list of the project's results. */
  narrowed: (project: string, filter: object) => ['unified-generations', 'project', project, filter] as const,
  nodes: (project: string) => ['nodes', project] as const,
  /** Under the nodes' key: whatever touches the canvas touches both. */
  edges: (project: string) => ['nodes', project, 'edges'] as const,
  templates: (project: string) => ['templates', project] as const,
  entries: (project: string) => ['credits', project, 'entries'] as const,
  /** Of a job that lists cut; it never changes. */
  input: (job: string) => ['job-input', job] as const,
  trace: (job: string) => ['trace', job] as const,
  generations: (project: string) => ['unified-generations', 'project', project] as const,
  credits: (project: string) => ['credits', project] as const,
  quote: (project: string, body: unknown) => ['quote', project, body] as const,
  models: () => ['models'] as const,
  session: () => ['session'] as const,
};
