import "./modules.mjs";

import assert from "node:assert/strict";
import test from "node:test";

const { account, placed, scaleOf } = await import("casket/model/points");

const rowsOf = (values) => values.map((x) => ({ params: x === undefined ? {} : { x }, last: {} }));
const isLog = (values) => scaleOf(rowsOf(values), "params.x").isLog;

test("what was drawn by orders of magnitude has a log axis, what was drawn evenly has none", () => {
  const evenly = Array.from({ length: 50 }, (_, i) => (i + 1) / 100);
  const byOrders = Array.from({ length: 50 }, (_, i) => 10 ** (-5 + i / 10));
  assert.equal(isLog(evenly), false);
  assert.equal(isLog(byOrders), true);
  assert.equal(isLog([0, ...byOrders]), false);
  assert.equal(isLog([0.1, 0.2]), false);
  assert.equal(isLog([]), false);
});

test("values that are not all numbers are categories", () => {
  const scale = scaleOf(rowsOf(["b", 10, 9, "a", undefined]), "params.x");
  assert.equal(scale.isNumeric, false);
  assert.deepEqual(scale.categories, ["9", "10", "a", "b"]);
});

test("a row that cannot be placed is counted with its reason, never dropped silently", () => {
  const rows = rowsOf([1, 100, 0, -1, "NaN", "Infinity", undefined, null]);
  const { points, leftOut } = placed(rows, [scaleOf(rows, "params.x", true)]);
  assert.equal(points.length, 2);
  assert.deepEqual([...leftOut], [
    ["with params.x ≤ 0, not on a log axis", 2],
    ["with params.x NaN", 1],
    ["with params.x infinite", 1],
    ["without params.x", 2],
  ]);
  assert.match(account(points.length, leftOut), /^2 of 8 sessions shown; left out: 2 with/);
});

test("the rarest of many categories are left out in words", () => {
  const rows = rowsOf(Array.from({ length: 60 }, (_, i) => `run ${i}`));
  const { points, leftOut } = placed(rows, [scaleOf(rows, "params.x")]);
  assert.equal(points.length, 40);
  assert.equal(leftOut.get("with a rarer params.x"), 20);
});
