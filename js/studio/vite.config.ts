import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

/** Where `npm run dev` finds a running server. */
const SERVER = 'http://127.0.0.1:8123';

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: '../../src/safelight/studio_dist',
    emptyOutDir: true,
    target: 'es2022',
    // One small page: a second round trip for a chunk would cost more than it saves.
    cssCodeSplit: false,
    assetsInlineLimit: 0,
  },
  server: { proxy: { '/v1': SERVER, '/media': SERVER } },
});
