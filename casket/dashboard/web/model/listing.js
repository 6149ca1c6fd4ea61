// The sessions that fit the condition: in which order, in which groups, and which are drawn.

import { computed, effect, signal } from "@preact/signals";

import {
  drawnGroups, drawnRows, groupsInOrder, groupsOf, headOf, inOrder, keptParts, settings,
  usualColumns, values,
} from "casket/model/arrange";
import { condition, isWriting } from "casket/model/condition";
import { shown, varyingNames } from "casket/model/facts";
import { bestRow, mainMetric, scoredNames, undirectedNames } from "casket/model/metrics";
import { data } from "casket/model/page";
import { fields } from "casket/model/view";

/** @typedef {import("casket/types").Item} Item */
/** @typedef {import("casket/types").Row} Row */
/** @typedef {import("casket/types").Group} Group */

const grouping = fields("group");
const sorting = fields("sort");
const chosen = fields("goal", "columns");
const choice = fields("hidden", "unfinished", "selected", "pinned", "show", "group", "sort");
const arrangement = fields("group", "pinned", "sort");
const selection = fields("selected");
const PAUSE_OF_CHARTS = 200;
/** @type {{parts: any[], keys: Set<string>, groupOf: Map<string, string>}} */
const NOTHING_DRAWN = { parts: [], keys: new Set(), groupOf: new Map() };
/** @type {(row: Row) => boolean} */
let lastFits = () => true;
/** @type {string[]} */
let lastColumns = [];
let lastDrawn = NOTHING_DRAWN;

const fitting = computed(() => {
  const { fits } = condition.value;
  return fits ? data.rows.value.filter(fits) : null;
});

/** How many sessions fit the condition. */
export const fitCount = computed(() => fitting.value?.length ?? 0);

/** While a condition is being written, the last valid condition with matches applies. */
export const isHeld = computed(
  () => !fitting.value || (isWriting.value && !fitting.value.length),
);

/** The sessions that fit. */
export const rows = computed(() => {
  if (isHeld.value || !fitting.value) return data.rows.value.filter(lastFits);
  lastFits = condition.value.fits;
  return fitting.value;
});

/** The names of the params, configs and meta in which sessions differ. */
export const varying = computed(() => {
  data.generation.value; // metrics logged later do not change it
  return varyingNames(data.rows.peek());
});

/** The metrics that can be the goal; those last whose names do not say which way is better. */
export const goals = computed(() => {
  const scored = [...new Set(rows.value.flatMap((row) => scoredNames(row)))].sort();
  return [...new Set([...scored, ...undirectedNames(rows.value)])];
});

/** The metric that determines the best session. */
export const goal = computed(() => {
  if (goals.value.includes(chosen.value.goal)) return chosen.value.goal;
  return mainMetric(rows.value) || (goals.value[0] ?? "");
});

/** The session whose best value of the goal is the best of all. */
export const best = computed(() => bestRow(rows.value, goal.value));

/** The names of the table's columns. */
export const columns = computed(() => {
  const given = { goal: goal.value, varying: varying.value, group: grouping.value.group };
  const names = chosen.value.columns ?? usualColumns(data.rows.value, given);
  if (names.join("\n") !== lastColumns.join("\n")) lastColumns = names;
  return lastColumns;
});

/** The sessions that fit, in their order. */
export const ordered = computed(() => inOrder(rows.value, sorting.value.sort, goal.value));

const open = signal(new Set());

/**
 * The table's rows.
 *
 * @type {import("@preact/signals").ReadonlySignal<Item[]>}
 */
export const items = computed(() => {
  const { group, pinned, sort } = arrangement.value;
  if (!group.length) {
    const isPinned = new Set(pinned);
    const top = ordered.value.filter((row) => isPinned.has(row.key));
    const rest = ordered.value.filter((row) => !isPinned.has(row.key));
    return [...top, ...rest].flatMap((row) => itemsOfRow(row));
  }
  return groupsInOrder(groupsOf(ordered.value, group), sort).flatMap(itemsOf);
});

/**
 * Opens a group or a session with children, or closes it.
 *
 * @param {string} key
 */
export function expand(key) {
  const next = new Set(open.value);
  if (!next.delete(key)) next.add(key);
  open.value = next;
}

/**
 * The drawn parts, `{key, label, rows}`, and the part that each session is in; what did not change
 * is the same object.
 */
export const drawn = computed(() => {
  const now = choice.value.group.length ? partsOfGroups() : partsOfRows();
  const parts = keptParts(now, lastDrawn.parts);
  if (parts === lastDrawn.parts) return lastDrawn;
  const groupOf = new Map();
  for (const part of parts) for (const row of part.rows) groupOf.set(row.key, part.key);
  lastDrawn = { parts, keys: new Set(groupOf.keys()), groupOf };
  return lastDrawn;
});

/** The drawn parts that charts show: while a condition is being written, those of its last pause. */
export const charted = signal(NOTHING_DRAWN);
effect(() => {
  const next = drawn.value;
  const show = () => (charted.value = next);
  if (!isWriting.value) return void show();
  const timer = setTimeout(show, PAUSE_OF_CHARTS);
  return () => clearTimeout(timer);
});

/** The sessions that are selected. */
export const selected = computed(() =>
  selection.value.selected.map((key) => data.row(key)).filter(Boolean),
);

/**
 * @param {Group} group
 * @returns {Item[]}
 */
function itemsOf(group) {
  const isOpen = open.value.has(group.key);
  const head = { key: group.key, group, isOpen };
  return isOpen ? [head, ...group.rows.flatMap((row) => itemsOfRow(row, 1))] : [head];
}

/**
 * Returns the row of a session and, if it is open, those of its children.
 *
 * @param {Row} row
 * @returns {Item[]}
 */
function itemsOfRow(row, depth = 0) {
  const children = data.childrenOf(row.key);
  const item = { key: row.key, row, depth };
  if (!children.length) return [item];
  const isOpen = open.value.has(row.key);
  const below = isOpen ? children.flatMap((child) => itemsOfRow(child, depth + 1)) : [];
  return [{ ...item, isOpen }, ...below];
}

function partsOfGroups() {
  const groups = drawnGroups(ordered.value, data.all.value, choice.value, goal.value);
  return groups.map((group) => ({
    key: group.key,
    label: group.names.map((name, i) => `${headOf(name)}=${shown(group.values[i]) || "–"}`).join(" "),
    rows: group.rows,
  }));
}

function partsOfRows() {
  const rowsDrawn = drawnRows(ordered.value, data.all.value, choice.value, goal.value);
  const first = rowsDrawn.length > 1 ? best.value : undefined;
  return rowsDrawn.map((row) => ({
    key: row.key,
    isBest: row === first,
    label: `${row.name} ${row.id.slice(0, 6)} ${settings(row, varying.value)}`,
    name: `${row.name} ${values(row, varying.value)}`,
    rows: [row],
  }));
}
