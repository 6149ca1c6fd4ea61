// The best values of metrics whose names do not say which way is better, but the reader.

import { effect, signal } from "@preact/signals";

import { ways } from "casket/model/facts";
import { data, source } from "casket/model/page";
import { repeated } from "casket/model/repeated";
import { fields, state, update } from "casket/model/view";

const PAUSE = 1000;
const chosen = fields("lower", "higher");

/** Why the best values could not be had; empty if they could. */
export const problem = signal("");

effect(() => {
  const { lower, higher } = chosen.value;
  ways.value = new Map([...lower.map(way("min")), ...higher.map(way("max"))]);
});

const ask = repeated(async () => {
  try {
    const asked = [...ways.peek()].map(async ([name, mode]) => [name, await source.best(name, mode)]);
    data.bests.value = Object.fromEntries(await Promise.all(asked));
    problem.value = "";
  } catch (error) {
    problem.value = error.message;
  }
});

let before = ways.peek();
effect(() => {
  data.sent.value; // any change may be a better value
  const isNew = ways.value !== before;
  before = ways.value;
  if (ways.value.size) ask(isNew ? 0 : PAUSE);
  else if (isNew) data.bests.value = {};
});

/**
 * Chooses which way a metric is better, and the metric as the goal.
 *
 * @param {string} metric
 * @param {"lower" | "higher"} side
 */
export function chooseWay(metric, side) {
  const { lower, higher } = state.peek();
  const without = (names) => names.filter((name) => name !== metric);
  const both = { lower: without(lower), higher: without(higher) };
  both[side].push(metric);
  update({ ...both, goal: metric });
}

function way(mode) {
  return (name) => /** @type {[string, "min" | "max"]} */ ([name, mode]);
}
