// Lets Node find the page's modules by the names that index.html maps to them.

import { register } from "node:module";

const source = `
const web = new URL("../../../casket/dashboard/web/", "${import.meta.url}");
const vendored = {
  preact: "preact.js", "preact/hooks": "preact-hooks.js", htm: "htm.js", uplot: "uPlot.js",
};
export function resolve(name, context, next) {
  const own = name.startsWith("casket/") && name.slice("casket/".length) + ".js";
  const file = own || (vendored[name] && "vendor/" + vendored[name]);
  return file ? { url: new URL(file, web).href, format: "module", shortCircuit: true }
    : next(name, context);
}
export async function load(url, context, next) {
  return next(url, { ...context, format: url.endsWith(".js") ? "module" : context.format });
}`;

register(`data:text/javascript,${encodeURIComponent(source)}`);
