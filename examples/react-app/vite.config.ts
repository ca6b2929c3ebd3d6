import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const target = process.env.SAFELIGHT ?? 'http://127.0.0.1:8080';
const proxy = { '/v1': target, '/media': target, '/realtime': { target, ws: true } };

export default defineConfig({ plugins: [react()], resolve: { dedupe: ['react', '@tanstack/react-query'] }, server: { proxy } });
