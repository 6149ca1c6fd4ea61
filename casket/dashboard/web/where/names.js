// The names that a `where` expression can hold: which are offered first, and which was meant.

import { possibleColumns } from "casket/model/arrange";
import { written } from "casket/model/facts";

const GROUPS = ["params", "last", "best", "", "config", "meta"];
const MOST = 8;

/** Returns all names as they are written: columns of the table, params and metrics, meta last. */
export function offeredNames(rows, columns) {
  const rank = (name) => {
    const group = GROUPS.indexOf(name.startsWith("last.") ? "last" : groupOf(name));
    return columns.includes(name) ? columns.indexOf(name) : columns.length + group;
  };
  const names = possibleColumns(rows).filter((name) => name !== "file");
  const ranked = names.map((name) => [rank(name), name]).sort(([a], [b]) => a - b);
  return [...new Set(ranked.map(([, name]) => written(name.replace(/^last\./, ""), rows)))];
}

/** Returns the few of the offered names that can be meant by a word that is being written. */
export function fittingNames(names, word) {
  const wanted = word.toLowerCase();
  const starts = names.filter((name) => name.toLowerCase().startsWith(wanted));
  const ends = names.filter((name) => tailOf(name).toLowerCase().startsWith(wanted));
  const holds = names.filter((name) => name.toLowerCase().includes(wanted));
  const found = [...new Set([...starts, ...ends, ...holds])].slice(0, MOST);
  return found.length === 1 && found[0] === word ? [] : found;
}

/** Returns the name nearest to an unknown name, preferably of the same group. */
export function meantName(names, unknown) {
  const wanted = tailOf(unknown).toLowerCase();
  const own = names.filter((name) => groupOf(name) === groupOf(unknown));
  const whole = unknown.toLowerCase();
  return nearest(own, wanted) ?? nearest(names, wanted) ?? nearest(names, whole, (name) => name);
}

function nearest(names, wanted, formOf = tailOf) {
  let best;
  let least = wanted.length / 3;
  for (const name of names) {
    const found = distance(wanted, formOf(name).toLowerCase(), least);
    if (found > least || (found === least && best)) continue;
    [best, least] = [name, found];
  }
  return best ?? names.find((name) => formOf(name).toLowerCase().includes(wanted));
}

/** Returns the hint about a name of a condition that no session has. */
export function hintOf({ start, stop }, text, names) {
  const unknown = text.slice(start, stop);
  const meant = misread(text.slice(start), names) ?? meantName(names, unknown);
  if (meant) return `no session has ${unknown}; did you mean ${meant}?`;
  const more = names.length > MOST ? ` and ${names.length - MOST} more` : "";
  return `no session has ${unknown}; there are ${names.slice(0, MOST).join(", ")}${more}`;
}

/** Returns the name in backquotes that stands, without them, at the start of a text. */
function misread(text, names) {
  const rest = bare(text);
  const matches = names
    .filter((name) => name.includes("`"))
    .flatMap((name) => [name, tailOf(name)].map((form) => ({ name, form: bare(form) })))
    .filter(({ form }) => rest.startsWith(form));
  matches.sort((a, b) => b.form.length - a.form.length || a.name.length - b.name.length);
  return matches[0]?.name;
}

function bare(name) {
  return name.replaceAll("`", "").replaceAll(" ", "");
}

function groupOf(name) {
  const [group, ...rest] = name.split(".");
  return rest.length && group !== "last" && GROUPS.includes(group) ? group : "";
}

function tailOf(name) {
  const group = groupOf(name);
  return group ? name.slice(group.length + 1) : name.replace(/^last\./, "");
}

/** Returns how many letters are put in, left out or changed; Infinity if far more than `most`. */
function distance(a, b, most) {
  if (Math.abs(a.length - b.length) > most) return Infinity;
  let line = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const changed = line[j - 1] + Number(a[i - 1] !== b[j - 1]);
      next.push(Math.min(changed, line[j] + 1, next[j - 1] + 1));
    }
    line = next;
  }
  return line[b.length];
}
