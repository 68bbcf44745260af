import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig } from "vite";

const FIRST_LOAD_BYTES = 200_000;

/** Fails the build when what a first visit loads is larger than it may be, compressed. */
const firstLoad = {
  name: "first-load",
  generateBundle(_, bundle) {
    const loaded = Object.values(bundle).filter(({ fileName }) => /\.(js|css|html)$/.test(fileName));
    const bytes = loaded.reduce((sum, file) => sum + gzipSync(file.type === "chunk" ? file.code : file.source).length, 0);
    if (bytes > FIRST_LOAD_BYTES) this.error(`a first visit loads ${bytes} bytes compressed, more than ${FIRST_LOAD_BYTES}`);
  },
};

export default defineConfig({
  base: "./",
  plugins: [firstLoad],
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  resolve: { alias: { "mafalda-client": fileURLToPath(new URL("../sdk/src/index.ts", import.meta.url)) } },
  build: { target: "es2022", sourcemap: true, assetsInlineLimit: 0 },
});
