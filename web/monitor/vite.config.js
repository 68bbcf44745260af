import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  server: { proxy: { "/api": "http://127.0.0.1:8081" } },
  build: { target: "es2022", sourcemap: true, assetsInlineLimit: 0 },
});
