/** An app that was written for Supabase Realtime: only the address and the key are ours. */
import { createClient } from '@supabase/supabase-js';

const { VITE_SAFELIGHT, VITE_KEY, VITE_PROJECT, VITE_TOKEN } = import.meta.env;
const supabase = createClient(VITE_SAFELIGHT, VITE_KEY, { accessToken: async () => VITE_TOKEN });

const status = document.getElementById('status') as HTMLElement;
const list = document.getElementById('jobs') as HTMLElement;
const lines = new Map<string, HTMLElement>();

function show(job: { id: string; status: string; input?: { prompt?: string } }): void {
  const line = lines.get(job.id) ?? document.createElement('li');
  line.textContent = `${job.status}: ${job.input?.prompt ?? job.id}`;
  if (!lines.has(job.id)) list.prepend(line);
  lines.set(job.id, line);
}

supabase
  .channel(`task-updates:${VITE_PROJECT}`)
  .on('broadcast', { event: 'task-update' }, ({ payload }) => show(payload))
  .on(
    'postgres_changes',
    { event: 'INSERT', schema: 'public', table: 'generations', filter: `project_id=eq.${VITE_PROJECT}` },
    ({ new: row }) => {
      const picture = document.createElement('img');
      picture.src = VITE_SAFELIGHT + row.urls.original;
      picture.alt = row.prompt ?? '';
      picture.height = 160;
      list.before(picture);
    },
  )
  .subscribe((now) => {
    status.textContent = now;
  });
