import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliCompress, gzip } from "node:zlib";
import { defineConfig } from "vite";

/** Puts a .br and a .gz beside each file that a browser loads; `mafalda` serves what the browser accepts. */
const precompress = {
  name: "precompress",
  apply: "build",
  async writeBundle({ dir }) {
    for (const name of await readdir(dir, { recursive: true })) {
      if (!/\.(js|css|html|svg)$/.test(name)) continue;
      const content = await readFile(`${dir}/${name}`);
      await writeFile(`${dir}/${name}.br`, await promisify(brotliCompress)(content));
      await writeFile(`${dir}/${name}.gz`, await promisify(gzip)(content, { level: 9 }));
    }
  },
};

export default defineConfig({
  base: "./",
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  resolve: { alias: { "mafalda-client": fileURLToPath(new URL("../sdk/src/index.ts", import.meta.url)) } },
  build: { target: "es2022", sourcemap: true, assetsInlineLimit: 0 },
  plugins: [precompress],
});
