// What is known of a session, by name, as the `where` language and `casket ls` name it.

const GROUPS = ["params", "config", "meta", "last", "best"];
const WORDS = { NaN, Infinity, "-Infinity": -Infinity };
const OWN_NUMBERS = ["epochs", "duration"];
const KEYWORDS = new Set(
  (
    "False None True and as assert async await break class continue def del elif else except " +
    "finally for from global if import in is lambda nonlocal not or pass raise return try while " +
    "with yield"
  ).split(" "),
);

const LOWER = new RegExp(
  "(^|[._/ -])(loss|error|err|mse|mae|rmse|mape|nll|bce|wer|cer|ppl|perplexity|fid|eer|" +
    "regret|brier|divergence|kl)($|[._/ -])|(loss|error|distance)$",
);
const HIGHER = new RegExp(
  "(^|[._/ -])(acc|accuracy|auc|auroc|ap|map|f1|fbeta|precision|recall|score|r2|iou|dice|bleu|" +
    "rouge|reward|return|psnr|ssim|mcc|kappa|top\\d+)($|[._/ -])|" +
    "(accuracy|score|precision|recall)$",
);

const NEITHER = /(^|[./ ])(std|rank)_|[._/ -](time|seconds|duration)s?$/;

const finders = new Map();
const MOST_FINDERS = 10_000;

const OWN = {
  __proto__: null,
  id: (row) => row.id,
  experiment: (row) => row.experiment,
  model: (row) => row.model,
  status: (row) => row.status,
  tags: (row) => row.tags,
  started: (row) => row.started,
  ended: (row) => row.ended,
  duration: (row) => (row.ended ? row.duration : secondsSince(row.started)),
  age: (row) => secondsSince(row.last_seen),
  error: (row) => row.error,
  note: (row) => row.note,
  epochs: (row) => row.epochs,
  file: (row) => row.last?.file ?? row.fileName,
  params: (row) => row.params,
  config: (row) => row.config,
  meta: (row) => row.meta,
};

/** Tells which way a metric is better, as far as its name says: "min", "max" or null. */
export function better(metric) {
  const name = metric.toLowerCase();
  if (NEITHER.test(name)) return null;
  if (LOWER.test(name)) return "min";
  return HIGHER.test(name) ? "max" : null;
}

/** Returns what a name, such as `params.lr` or `val_loss`, means for a row; else undefined. */
export function valueOf(row, name) {
  if (!finders.has(name)) {
    if (finders.size >= MOST_FINDERS) finders.clear();
    finders.set(name, finder(name.split(".")));
  }
  const value = finders.get(name)(row);
  return value === undefined ? valueOfOddKey(row, name) : value;
}

/** Tells whether a name, given as its parts, can mean something for any of some rows. */
export function isKnown(parts, rows) {
  const [group] = parts;
  if (parts.length === 1 && group in OWN) return true;
  const find = finder(parts);
  // What a row does not hold because it is long may be there all the same.
  return rows.some((row) => find(row) !== undefined || row.partial?.includes(group));
}

/** Turns a name, given as its parts, into a function that finds what it means for a row. */
export function finder(parts) {
  const [first, ...rest] = parts;
  const flat = parts.join(".");
  const metric = (row) => restored(own(row.last, flat));
  if (!rest.length) return OWN[first] ?? metric;
  if (!GROUPS.includes(first)) return metric;
  const flatRest = rest.join(".");
  const member = (row) => restored(inside(row[first], rest, flatRest));
  // A metric may itself be called "best.acc".
  return first === "best" ? (row) => metric(row) ?? member(row) : member;
}

/** Returns a number in the place of the words that stand in JSON for NaN and infinities. */
export function restored(value) {
  return typeof value === "string" && Object.hasOwn(WORDS, value) ? WORDS[value] : value;
}

/** Returns what a table itself has under a key; never what all of JavaScript's objects have. */
export function own(table, key) {
  return isDict(table) && Object.hasOwn(table, key) ? table[key] : undefined;
}

/** Tells whether a value is a finite number. */
export const isNumber = Number.isFinite;

/** Tells whether a value is a dict, which neither null nor a list is. */
export function isDict(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns `{opt: {name: 1}}` as `{"opt.name": 1}`. */
export function flatten(nested, prefix = "") {
  return Object.fromEntries(leaves(nested ?? {}).map(([path, value]) => [
    prefix + path.join("."),
    value,
  ]));
}

/** Returns the path of keys to each value inside a nested dict, and the value. */
export function leaves(nested, path = []) {
  return Object.entries(nested).flatMap(([key, value]) =>
    isDict(value) && Object.keys(value).length
      ? leaves(value, [...path, key])
      : [[[...path, key], value]],
  );
}

/**
 * Returns the names of params, then of config, then of meta, in which rows differ; of each those
 * that most rows have come first.
 */
export function varyingNames(rows) {
  return ["params", "config", "meta"].flatMap((group) => {
    const tables = rows.map((row) => flatten(row[group], `${group}.`));
    const counts = new Map();
    for (const name of tables.flatMap(Object.keys)) counts.set(name, (counts.get(name) ?? 0) + 1);
    return differing(tables).sort((a, b) => counts.get(b) - counts.get(a));
  });
}

/** Returns the keys in which flat tables differ, in the order they come. */
export function differing(tables) {
  const firsts = new Map();
  const counts = new Map();
  const found = new Set();
  for (const table of tables) {
    for (const [name, value] of Object.entries(table)) {
      const text = JSON.stringify(value);
      if (!firsts.has(name)) firsts.set(name, text);
      else if (firsts.get(name) !== text) found.add(name);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  return [...firsts.keys()].filter((name) => found.has(name) || counts.get(name) < tables.length);
}

/** Returns the names under which any row has a number: params, metrics, best values, its own. */
export function numericNames(rows) {
  const params = new Set();
  const metrics = new Set();
  const best = new Set();
  for (const row of rows) {
    addNumeric(params, flatten(row.params, "params."));
    addNumeric(metrics, row.last);
    addNumeric(best, row.best, "best.");
  }
  return [...params, ...metrics, ...best, ...OWN_NUMBERS];
}

/** Returns a name as a `where` expression must write it, such as `params["weird key"]`. */
export function written(name, rows) {
  const [first, ...rest] = pathOf(name, rows);
  return first + rest.map((key) => (isPlain(key) ? `.${key}` : `[${quoted(key)}]`)).join("");
}

/** Returns text in quotes, as a `where` expression must write it. */
export function quoted(text) {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Returns the text of a cell. */
export function shown(value, name = "") {
  if (value === undefined || value === null) return "";
  if (name === "duration" || name === "age") return shownDuration(value);
  if (typeof value === "number") return shownNumber(value);
  if (typeof value === "string") return shownText(value);
  if (Array.isArray(value)) return `[${value.map(shownInside).join(", ")}]`;
  if (typeof value !== "object") return String(value);
  const items = Object.entries(value).map(([key, item]) => `${key}: ${shownInside(item)}`);
  return `{${items.join(", ")}}`;
}

/** Returns a number in five significant digits at most; a whole one in full. */
export function shownNumber(number) {
  if (!isNumber(number) || Number.isInteger(number)) return String(number);
  const size = Math.abs(number);
  if (size >= 1e-4 && size < 1e15) return String(Number(number.toPrecision(5)));
  return String(number.toExponential(4)).replace(/\.?0*e/, "e");
}

/** Returns seconds as people say them: `41 s`, `2 min 5 s`, `3 h 20 min`, `4 d 1 h`. */
export function shownDuration(seconds) {
  if (!isNumber(seconds)) return "";
  if (seconds < 10) return `${Number(Math.max(seconds, 0).toPrecision(2))} s`;
  const whole = Math.round(seconds);
  /** @type {[number, string][]} */
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

/** Returns the time of a record, such as `2026-11-23 08:57:10`, in UTC as `where` reads it. */
export function shownTime(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? text : time.toISOString().slice(0, 19).replace("T", " ");
}

function secondsSince(text) {
  return text ? Math.max(Date.now() - Date.parse(text), 0) / 1000 : undefined;
}

function inside(values, path, flat) {
  let found = values;
  for (const key of path) {
    if (!isDict(found) || !Object.hasOwn(found, key)) return own(values, flat);
    found = found[key];
  }
  return found;
}

/** Finds a value under a key that has a dot in it, inside another: `{opt: {"a.b": 1}}`. */
function valueOfOddKey(row, name) {
  const [path, found] = oddPath(row, name) ?? [];
  return path && restored(found);
}

function oddPath(row, name) {
  const [group] = name.split(".", 1);
  if (!GROUPS.includes(group) || group === name || !isDict(row[group])) return undefined;
  const rest = name.slice(group.length + 1);
  // Each level takes one dot at least, so that most names need no search.
  if (rest.split(".").length < 3) return undefined;
  return leaves(row[group]).find(([path]) => path.join(".") === rest);
}

function pathOf(name, rows) {
  const parts = name.split(".");
  const [group] = parts;
  const rest = name.slice(group.length + 1);
  if (!rest && name in OWN) return parts;
  if (!rest || !GROUPS.includes(group)) return parts.every(isPlain) ? parts : ["last", name];
  for (const row of rows) {
    if (own(row[group], rest) !== undefined) return [group, rest];
    const [path] = oddPath(row, name) ?? [];
    if (path) return [group, ...path];
  }
  return parts;
}

function isPlain(key) {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(key) && !key.startsWith("__") && !KEYWORDS.has(key);
}

function addNumeric(names, table, prefix = "") {
  for (const [name, value] of Object.entries(table ?? {})) {
    if (typeof restored(value) === "number") names.add(prefix + name);
  }
}

function shownInside(value) {
  return value === null ? "null" : shown(value);
}

function shownText(text) {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.]*(Z|[+-]\d\d:\d\d)$/.test(text)
    ? shownTime(text)
    : text;
}
