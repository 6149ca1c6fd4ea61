import "./modules.mjs";

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const { importance, interval, rankedParams, ranks } = await import("casket/model/statistics");
const shared = JSON.parse(readFileSync(new URL("../metric_cases.json", import.meta.url)));

for (const [sample, mean, margin] of shared.interval) {
  test(`the interval of ${JSON.stringify(sample)}`, () => {
    const found = interval(sample);
    near(found.mean, mean);
    near(found.margin, margin ?? NaN);
    assert.equal(found.n, sample.length);
  });
}

test("what is not finite makes the mean so", () => {
  assert.ok(Number.isNaN(interval([1, NaN]).mean));
  assert.equal(interval([1, Infinity]).mean, Infinity);
  assert.ok(Number.isNaN(interval([1, Infinity]).margin));
});

for (const [values, scores, share] of shared.importance) {
  test(`importance of ${values.slice(0, 6)} is as Python computes it`, () => {
    const [found] = importance(scores.map((loss, i) => row({ param: values[i] }, loss)), "loss");
    if (share === null) assert.equal(found.share, null);
    else near(found.share, share);
  });
}

test("importance is omega squared: what the groups explain beyond chance", () => {
  const scores = [1, 2, 3, 4, 5, 6];
  const rows = scores.map((loss, i) => row({ side: i < 3 ? "a" : "b" }, loss));
  // By hand: SS total 17.5, within 4, so between 13.5; error 4 / 4 = 1.
  near(importance(rows, "loss")[0].share, (13.5 - 1) / (17.5 + 1));
});

test("a param that decides comes before one that does not, which gets about nothing", () => {
  const noise = random(7);
  const rows = Array.from({ length: 60 }, (_, i) =>
    row({ lr: [0.1, 0.01, 0.001][i % 3], seed: Math.floor(i / 3) % 4 }, (i % 3) + 0.1 * noise()),
  );
  const [first, second] = importance(rows, "loss");
  assert.equal(first.name, "params.lr");
  assert.ok(first.share > 0.95);
  assert.ok(first.correlation < -0.9);
  assert.ok(second.share < 0.05);
});

test("a numeric param of many values is cut into groups", () => {
  const rows = Array.from({ length: 80 }, (_, i) => row({ dropout: i / 80 }, i / 80));
  const [found] = importance(rows, "loss");
  assert.ok(found.share > 0.9);
  near(found.correlation, 1);
});

test("noise alone explains next to nothing, however many values it has", () => {
  const noise = random(3);
  const one = () => row({ x: noise(), y: Math.floor(noise() * 9) }, noise());
  const rows = Array.from({ length: 200 }, one);
  for (const { share } of importance(rows, "loss")) assert.ok(share < 0.06, String(share));
});

test("where nothing can be told, it says why", () => {
  const few = [1, 2, 3].map((loss) => row({ a: loss % 2 }, loss));
  assert.match(importance(few, "loss")[0].problem, /fewer than/);
  const unlike = Array.from({ length: 10 }, (_, i) => row({ name: `run ${i}` }, i));
  assert.match(importance(unlike, "loss")[0].problem, /own value/);
});

test("sessions without a number, and params that do not vary, are left out", () => {
  const rows = Array.from({ length: 12 }, (_, i) => row({ same: 1, a: i % 2 }, i < 10 ? i : "NaN"));
  const found = importance(rows, "loss");
  assert.deepEqual(found.map(({ name, n }) => [name, n]), [["params.a", 10]]);
});

test("only completed sessions are representative, however few they are", () => {
  const rows = [1, 2, 3, 4, 5, 6].map((loss, i) => row({ a: i % 2 }, loss));
  const others = ["running", "failed", "killed"].map((status) => row({ a: 0 }, 100, status));
  assert.deepEqual(importance([...rows, ...others], "loss"), importance(rows, "loss"));
});

test("params that vary are offered from two sessions on, also while they run", () => {
  const two = [row({ lr: 0.1, units: 8 }, 1), row({ lr: 0.2, units: 8 }, 2, "running")];
  assert.deepEqual(rankedParams(two, "loss"), ["params.lr"]);
  const six = [1, 2, 3, 4, 5, 6].map((loss, i) => row({ name: `run ${i}`, a: i % 2 }, loss));
  assert.deepEqual(rankedParams(six, "loss"), ["params.a", "params.name"]);
});

test("equal numbers share their rank", () => {
  assert.deepEqual(ranks([10, 20, 20, 5]), [2, 3.5, 3.5, 1]);
});

function row(params, loss, status = "completed") {
  return { status, params, config: {}, meta: {}, last: { loss }, best: {} };
}

function near(found, expected) {
  if (Number.isNaN(expected)) assert.ok(Number.isNaN(found));
  else assert.ok(Math.abs(found - expected) <= 1e-12 * Math.max(1, Math.abs(expected)), `${found}`);
}

function random(seed) {
  let state = seed;
  return () => (state = (state * 16807) % 2147483647) / 2147483647;
}
