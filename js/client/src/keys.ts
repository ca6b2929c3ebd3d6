/** The only place where query keys are made (F1, api.md "Keys"). */
export const keys = {
  jobs: (project: string) => ['tasks', project] as const,
  generations: (project: string) => ['unified-generations', 'project', project] as const,
  credits: (project: string) => ['credits', project] as const,
  quote: (project: string, body: unknown) => ['quote', project, body] as const,
  models: () => ['models'] as const,
  session: () => ['session'] as const,
};
