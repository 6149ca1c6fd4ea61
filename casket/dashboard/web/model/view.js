// The state of the view, as the address has it.

import { computed, signal } from "@preact/signals";

import * as address from "casket/model/address";
import { data } from "casket/model/page";

/** @typedef {import("casket/types").State} State */

/** @type {(keyof State)[]} */
const SELDOM = ["view", "session"];
const PAUSE = 150;

const raw = signal(address.parse(location.hash));
const count = computed(() => data.all.value.length);
/** @type {State} */
let settled;
let timer;

/** The state of the address, sessions by their keys; the same object until it changes. */
export const state = computed(() => {
  // Sessions that come may be meant by names that meant none before.
  const rows = count.value ? data.all.peek() : [];
  settled = withKept(address.resolve(raw.value, rows), settled);
  return settled;
});

/** The shortest names of all sessions, by their keys. */
export const shortNames = computed(() => address.shortNames(data.all.value));

/**
 * Returns some fields of the state as a signal that changes only with them.
 *
 * @template {keyof State} Name
 * @param {Name[]} names
 * @returns {import("@preact/signals").ReadonlySignal<Pick<State, Name>>}
 */
export function fields(...names) {
  /** @type {Pick<State, Name>} */
  let kept;
  return computed(() => {
    const all = state.value;
    if (!kept || names.some((name) => all[name] !== kept[name])) {
      const entries = names.map((name) => [name, all[name]]);
      kept = /** @type {Pick<State, Name>} */ (Object.fromEntries(entries));
    }
    return kept;
  });
}

/**
 * Changes fields of the state, and the address with them.
 *
 * @param {Partial<State>} change
 */
export function update(change) {
  const before = state.peek();
  const next = { ...before, ...change };
  if (next.view !== "session") next.session = "";
  const isStep = SELDOM.some((name) => next[name] !== before[name]);
  if (isStep) write("replaceState");
  raw.value = next;
  clearTimeout(timer);
  if (isStep) write("pushState");
  // Browsers refuse an address that changes too often, as under a slider.
  else timer = setTimeout(write, PAUSE, "replaceState");
}

/**
 * Changes the settings of a view's charts in the address.
 *
 * @param {Partial<State["explore"]>} change
 */
export function chooseExplore(change) {
  update({ explore: { ...state.peek().explore, ...change } });
}

addEventListener("popstate", () => (raw.value = address.parse(location.hash)));

function write(how) {
  clearTimeout(timer);
  const hash = address.format(state.peek(), shortNames.peek());
  history[how](null, "", hash || location.pathname + location.search);
}

/**
 * Keeps equal parts of the previous state, so that nothing is recomputed.
 *
 * @param {State} next
 * @param {State | undefined} before
 * @returns {State}
 */
function withKept(next, before) {
  if (!before) return next;
  const isSame = (name) =>
    next[name] === before[name] || JSON.stringify(next[name]) === JSON.stringify(before[name]);
  const names = Object.keys(next);
  if (names.every(isSame)) return before;
  const entries = names.map((name) => [name, (isSame(name) ? before : next)[name]]);
  return /** @type {State} */ (Object.fromEntries(entries));
}
