/** Builds the small apps that tests show in a browser, from this repository's own sources and installed packages. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const js = here('../../js');
const supabase = here('../conformance/node_realtime/node_modules/@supabase/supabase-js');

// As an app of one origin has it: the API behind the app's own server.
const target = process.env.SAFELIGHT;
const proxy = target && { '/v1': target, '/media': target, '/realtime': { target, ws: true } };

export default {
  base: './',
  ...(proxy && { preview: { proxy } }),
  logLevel: 'error',
  resolve: {
    alias: {
      '@safelight/client': `${js}/client/src/index.ts`,
      '@safelight/react': `${js}/react/src/index.ts`,
      '@tanstack/react-query': `${js}/node_modules/@tanstack/react-query`,
      'react-dom': `${js}/node_modules/react-dom`,
      react: `${js}/node_modules/react`,
      ...(existsSync(supabase) ? { '@supabase/supabase-js': supabase } : {}),
    },
  },
};
