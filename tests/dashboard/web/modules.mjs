// Lets Node find the page's modules by the names that the import map gives them.

import { register } from "node:module";

const source = `
import { existsSync } from "node:fs";
const web = new URL("../../../casket/dashboard/web/", "${import.meta.url}");
export function resolve(name, context, next) {
  const own = name.startsWith("casket/") && name.slice("casket/".length);
  const url = new URL((own || "vendor/" + name) + ".js", web);
  return own || existsSync(url) ? { url: url.href, format: "module", shortCircuit: true }
    : next(name, context);
}
export async function load(url, context, next) {
  return next(url, { ...context, format: url.endsWith(".js") ? "module" : context.format });
}`;

register(`data:text/javascript,${encodeURIComponent(source)}`);
