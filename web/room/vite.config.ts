import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  resolve: { alias: { "mafalda-client": new URL("../sdk/src/index.ts", import.meta.url).pathname } },
  build: { target: "es2022", sourcemap: true, assetsInlineLimit: 0 },
});
