import { isDict, isNumber } from "casket/model/facts";

/** @typedef {import("casket/types").Row} Row */
/** @typedef {import("casket/types").State} State */

/**
 * The state of an empty address.
 *
 * @type {Readonly<State>}
 */
export const DEFAULTS = Object.freeze({
  view: "sessions",
  session: "",
  sweep: "",
  where: "",
  sort: "",
  columns: null,
  group: [],
  selected: [],
  pinned: [],
  hidden: [],
  colors: [],
  show: "10",
  unfinished: false,
  goal: "",
  lower: [],
  higher: [],
  metrics: null,
  kind: "epoch",
  x: "number",
  smooth: 0,
  log: false,
  band: "interval",
  range: null,
  outliers: false,
  over: "",
  charts: [],
  ranges: [],
  explore: {},
});

const CHOICES = {
  view: ["sessions", "compare", "explore", "session", "sweep"],
  show: ["10", "20", "100", "all"],
  kind: ["epoch", "batch"],
  x: ["number", "time", "wall"],
  band: ["interval", "range"],
};
const LISTS = [
  "columns", "group", "selected", "pinned", "hidden", "colors", "metrics", "lower", "higher", "charts",
  "ranges",
];
const SESSIONS = ["selected", "pinned", "hidden"];
const SHORTEST = 4;

const CURVES = [
  "metrics", "kind", "x", "smooth", "log", "band", "range", "outliers", "over", "charts", "ranges",
];
const TABLE = ["sort", "columns", "group", "show", "unfinished", "goal", "lower", "higher"];
const PARTS = {
  sessions: [...TABLE, ...CURVES],
  compare: ["group", "explore", ...CURVES],
  explore: ["goal", "explore"],
  session: [...CURVES, "explore"],
  sweep: ["sweep", "goal"],
};

const isText = (value) => typeof value === "string";
const isFlag = (value) => typeof value === "boolean";
const areTexts = (value) => Array.isArray(value) && value.every(isText);
const isRange = (value) =>
  Array.isArray(value) && value.length === 2 && value.every(isNumber) && value[0] <= value[1];
const isBrushed = (value) => isRange(value) || (areTexts(value) && value.length > 0);
const isTableOf = (isFit) => (value) => isDict(value) && Object.values(value).every(isFit);

// The settings of the charts under "explore.", with their valid values.
const EXPLORE = {
  metric: isText,
  mode: (value) => value === "min" || value === "max",
  x: isText,
  y: isText,
  color: isText,
  logX: isFlag,
  logY: isFlag,
  axes: areTexts,
  brushed: isTableOf(isBrushed),
  base: isText,
  baseline: isText,
  all: isFlag,
  search: isText,
  scorer: isText,
  across: isText,
  down: isText,
  slices: isTableOf(isText),
};

/**
 * Reads a view's state from a location's hash; unreadable parts keep their defaults.
 *
 * @param {string} hash
 * @returns {State}
 */
export function parse(hash) {
  const state = { ...DEFAULTS, explore: {} };
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    const name = decode(at < 0 ? part : part.slice(0, at));
    const text = at < 0 ? "" : part.slice(at + 1);
    if (name.startsWith("explore.")) {
      readExplore(state.explore, name.slice("explore.".length), decode(text));
    } else if (Object.hasOwn(DEFAULTS, name) && name !== "explore") {
      state[name] = read(name, text) ?? DEFAULTS[name];
    }
  }
  return state;
}

/** Returns a view's own part of the state for an empty address. */
export function atFirst(view) {
  return Object.fromEntries(PARTS[view].map((name) => [name, DEFAULTS[name]]));
}

/**
 * Writes a view's state as a location's hash: sessions by their short names, defaults left out.
 *
 * @param {State} state
 * @param {Map<string, string>} shortNames
 */
export function format(state, shortNames = new Map()) {
  const parts = [];
  const short = (key) => shortNames.get(key) ?? key;
  for (const [name, standard] of Object.entries(DEFAULTS)) {
    if (name === "explore" || same(state[name], standard)) continue;
    const named = withNames(name, state[name], short);
    const value = name === "session" ? short(named) : named;
    parts.push(`${name}=${write(value)}`);
  }
  for (const [name, value] of Object.entries(state.explore)) {
    if (value !== undefined) parts.push(`${encode(`explore.${name}`)}=${encode(toText(value))}`);
  }
  return parts.length ? `#${parts.join("&")}` : "";
}

/**
 * Returns the shortest name of each session that no other has: a prefix of its id, by its key.
 *
 * @param {Row[]} rows
 * @returns {Map<string, string>}
 */
export function shortNames(rows) {
  const sorted = rows.map((row) => [row.id, row.key]).sort(([a], [b]) => (a < b ? -1 : 1));
  const names = new Map();
  sorted.forEach(([id, key], i) => {
    const before = common(id, sorted[i - 1]?.[0] ?? "");
    const after = common(id, sorted[i + 1]?.[0] ?? "");
    const length = Math.max(before, after) + 1;
    names.set(key, length > id.length ? key : id.slice(0, Math.max(length, SHORTEST)));
  });
  return names;
}

/**
 * Returns the state with sessions by their keys, as far as they are among the rows.
 *
 * @param {State} state
 * @param {Row[]} rows
 * @returns {State}
 */
export function resolve(state, rows) {
  const find = finder(rows);
  const resolved = { ...state, session: state.session && find(state.session) };
  for (const name of SESSIONS) resolved[name] = [...new Set(state[name].map(find))];
  resolved.colors = withNames("colors", state.colors, find);
  return resolved;
}

/** Returns the value of a field with other names of its sessions; a color stands before its own. */
function withNames(name, value, rename) {
  if (name === "colors") {
    return value.map((each) => each.replace(/~(.*)/, (_, key) => `~${rename(key)}`));
  }
  return SESSIONS.includes(name) ? value.map(rename) : value;
}

function finder(rows) {
  const keys = new Set(rows.map((row) => row.key));
  return (name) => {
    if (keys.has(name)) return name;
    const found = rows.filter((row) => row.id.startsWith(name));
    found.sort((a, b) => (a.started < b.started ? -1 : 1));
    return found[0]?.key ?? name;
  };
}

function read(name, text) {
  if (LISTS.includes(name)) return text ? text.split(",").map(decode) : [];
  const plain = decode(text);
  if (name === "range") return readRange(plain);
  if (name === "smooth") return Math.min(Math.max(Number(plain) || 0, 0), 0.99);
  if (typeof DEFAULTS[name] === "boolean") return plain !== "no";
  return CHOICES[name] && !CHOICES[name].includes(plain) ? undefined : plain;
}

function readExplore(explore, name, text) {
  if (!Object.hasOwn(EXPLORE, name)) return;
  const value = [text, fromText(text)].find(EXPLORE[name]);
  if (value !== undefined) explore[name] = value;
}

function readRange(text) {
  const range = text.split("~").map(Number);
  return range.length === 2 && range.every(Number.isFinite) && range[0] < range[1] ? range : null;
}

function write(value) {
  if (value === true) return "yes";
  if (Array.isArray(value) && typeof value[0] === "number") return value.join("~");
  return Array.isArray(value) ? value.map(encode).join(",") : encode(String(value));
}

function same(a, b) {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

function toText(value) {
  return isText(value) ? value : JSON.stringify(value);
}

function fromText(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function encode(text) {
  return encodeURIComponent(text).replaceAll("%20", "+").replaceAll("%3A", ":");
}

function decode(text) {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}

function common(a, b) {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return length;
}
