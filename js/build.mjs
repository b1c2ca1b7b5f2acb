// One ESM file and one CSS file for anywidget. `--watch` rebuilds, `--demo` serves demo.html on a local port.
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { build, context } from "esbuild";

const OUT = new URL("../src/live_telemetry_widget/view/static/", import.meta.url).pathname;
const LIMIT_KB = 80;
const demo = process.argv.includes("--demo");
const watch = process.argv.includes("--watch");

/** @type {import("esbuild").BuildOptions} */
const widget = {
  absWorkingDir: new URL(".", import.meta.url).pathname,
  entryPoints: { widget: "src/widget.ts" },
  outdir: OUT,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: !(demo || watch),
  sourcemap: demo || watch ? "inline" : false,
  legalComments: "none",
  // Licences of what is bundled, where people look for them.
  banner: {
    js: "/*! bundles @uwdata/flechette (BSD-3-Clause), regular-table (Apache-2.0) */",
  },
  logLevel: "warning",
};

if (demo) {
  const served = await context({
    ...widget,
    entryPoints: { demo: "demo.ts", widget: "src/widget.ts" },
    loader: { ".gz": "file" },
    publicPath: "/dist-demo",
    outdir: new URL("dist-demo/", import.meta.url).pathname,
  });
  const port = Number(process.env.PORT ?? 8765);
  await served.serve({ host: "127.0.0.1", port, servedir: widget.absWorkingDir });
  console.log(`http://127.0.0.1:${port}/demo.html  (?synthetic&rate=200, ?theme=dark, ?state=failed, ...)`);
} else if (watch) {
  const watched = await context({ ...widget, logLevel: "info" });
  await watched.watch();
} else {
  // The report's bundle holds the view once more, so that a file of its own is all that a report needs.
  await build({ ...widget, entryPoints: { widget: "src/widget.ts", report: "src/report.ts" } });
  let total = 0;
  for (const name of ["widget.js", "widget.css"]) {
    const kb = gzipSync(await readFile(OUT + name), { level: 9 }).length / 1000;
    total += kb;
    console.log(`${name.padEnd(11)} ${kb.toFixed(1).padStart(6)} kB gzipped`);
  }
  console.log(`${"together".padEnd(11)} ${total.toFixed(1).padStart(6)} kB of ${LIMIT_KB} kB`);
  if (total > LIMIT_KB) {
    console.error(`the bundle is over its limit of ${LIMIT_KB} kB`);
    process.exitCode = 1;
  }
}
