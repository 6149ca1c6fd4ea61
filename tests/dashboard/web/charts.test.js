// The first charts, the extent of their axes, and the notes about the others.

import "./modules.mjs";

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const { learnMetrics } = await import("casket/model/facts");
const { drawnGroups, drawnRows, keptParts } = await import("casket/model/arrange");
const { drawingOf, isSameDrawing } = await import("casket/curves/drawing");
const { charts, mainMetric, sectionsOf } = await import("casket/model/metrics");
const { overMetric } = await import("casket/curves/align");
const { logRange, logTicks } = await import("casket/model/axis");
const { account, placed, scaleOf } = await import("casket/model/points");
const decided = JSON.parse(readFileSync(new URL("../metric_cases.json", import.meta.url)));
learnMetrics(Object.fromEntries(decided.facts));

const PLAIN = { smooth: 0, isLog: false, band: "interval", range: null, x: "number" };
const SHOWN = { hidden: [], selected: [], pinned: [], group: [], sort: "", show: "10" };

const floats = (...numbers) => Float64Array.from(numbers);
const curve = (xs, ys) => ({
  xs: floats(...xs), ys: floats(...ys), count: xs.length, shown: xs.length, leftOut: 0,
});
const part = (...curves) => ({ key: "a", label: "a", color: "#000", curves: { loss: curves } });
const row = (id, more = {}) => ({
  key: `0.${id}`, id, status: "completed", started: "", params: {}, best: {}, last: {}, ...more,
});
const titles = (metrics, main = "") => charts(metrics, main).map(({ title }) => title);

const rows = Array.from({ length: 30 }, (_, i) =>
  row(String(i), { params: { lr: i }, best: { val_acc: i === 23 ? 0.9 : i / 100 } }),
);
const drawn = (more = {}) =>
  drawnRows(rows, rows, { ...SHOWN, ...more }, "val_acc").map(({ id }) => Number(id));

test("the best session is drawn, in the place of the last of the newest", () => {
  assert.deepEqual(drawn(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 23]);
});

test("the best session is not drawn where it is hidden, or others are selected", () => {
  assert.ok(!drawn({ hidden: ["0.23"] }).includes(23));
  assert.deepEqual(drawn({ selected: ["0.4"] }), [4]);
});

test("the best session takes no place of a pinned one", () => {
  const pinned = Array.from({ length: 10 }, (_, i) => `0.${i + 5}`);
  assert.deepEqual(drawn({ pinned }), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 23]);
});

test("the group that holds the best session is drawn", () => {
  const state = { ...SHOWN, group: ["params.lr"] };
  const groups = drawnGroups(rows, rows, state, "val_acc");
  assert.equal(groups.length, 10);
  assert.equal(groups.at(-1).rows[0].id, "23");
});

test("charts of scores come first, those of unseen data before training, plumbing last", () => {
  const logged = [
    "mean_score_time", "candidate", "std_test_score", "rank_test_score", "split0_test_score",
    "lr", "mean_train_score", "accuracy", "mean_test_score", "n_test_samples",
  ];
  const found = titles(logged);
  assert.deepEqual(
    found.slice(0, 4), ["mean_test_score", "accuracy", "mean_train_score", "lr"],
  );
  assert.equal(titles(logged, "accuracy")[0], "accuracy");
});

test("a metric that only sounds like a counter is none", () => {
  assert.deepEqual(
    titles(["lr", "epoch", "loss_step", "mean_reciprocal_rank"]),
    ["loss_step", "lr", "mean_reciprocal_rank", "epoch"],
  );
});

test("the main metric is no deviation and no rank", () => {
  const best = { rank_test_score: 1, std_test_score: 1, split0_test_score: 1, mean_test_score: 1 };
  assert.equal(mainMetric([row("a", { best })]), "mean_test_score");
});

test("the first and the last point of a curve lie inside the chart", () => {
  const { extent } = drawingOf([part(curve([1, 2, 3], [1, 2, 3]))], ["loss"], PLAIN);
  assert.ok(extent.x[0] < 1 && extent.x[0] > 0.8);
  assert.ok(extent.x[1] > 3 && extent.x[1] < 3.2);
  const zoomed = drawingOf([part(curve([1, 2, 3], [1, 2, 3]))], ["loss"],
    { ...PLAIN, range: [1, 2] });
  assert.deepEqual(zoomed.extent.x, [1, 2]);
});

test("a log axis reaches a little beyond its own values", () => {
  const [low, high] = logRange([0.02, 0.3]);
  assert.ok(low > 0.015 && low < 0.02);
  assert.ok(high > 0.3 && high < 0.4);
  const [under, over] = logRange([5]);
  assert.ok(under < 5 && over > 5 && over / under < 10);
});

test("a log axis is marked at round numbers, however short or long it is", () => {
  assert.deepEqual(logTicks([0.018, 0.33]), [0.02, 0.05, 0.1, 0.2]);
  assert.deepEqual(logTicks([0.9e-5, 1.1]), [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1]);
  assert.deepEqual(logTicks([1.55, 1.95]), [1.6, 1.7, 1.8, 1.9]);
  assert.ok(logTicks([1e-300, 1e300]).length <= 12);
});

test("what cannot stand on a log axis is counted", () => {
  const some = [1, 0, -1, 10].map((lr, i) => row(String(i), { params: { lr } }));
  const { points, leftOut } = placed(some, [scaleOf(some, "params.lr", true)]);
  assert.equal(points.length, 2);
  const said = "2 of 4 sessions shown; left out: 2 with params.lr ≤ 0, not on a log axis.";
  assert.equal(account(points.length, leftOut), said);
});

test("a band is over those present, and says how many these are", () => {
  const seeds = [
    curve([1, 2, 3, 4, 5], [1, 1, 1, 1, 1]),
    curve([1, 3, 4, 5], [3, 3, 3, 3]),
    curve([1, 2, 3], [5, NaN, 5]),
  ];
  const { bands } = drawingOf([part(...seeds)], ["loss"], { ...PLAIN, isGrouped: true });
  const [{ xs, mean, n, low, high }] = bands;
  assert.deepEqual([...xs], [1, 2, 3, 4, 5]);
  assert.deepEqual([...mean], [3, 1, 3, 2, 2]);
  assert.deepEqual([...n], [3, 1, 3, 2, 2]);
  assert.equal(low[1], high[1]);
});

test("a seed that logs every second epoch is read in between", () => {
  const seeds = [curve([1, 2, 3, 4, 5], [1, 1, 1, 1, 1]), curve([1, 3, 5], [3, 3, 3])];
  const { bands } = drawingOf([part(...seeds)], ["loss"], { ...PLAIN, isGrouped: true });
  assert.deepEqual([...bands[0].mean], [2, 2, 2, 2, 2]);
});

test("a line or band that is drawn already is the same object in the next drawing", () => {
  const named = (key, ...curves) => ({ ...part(...curves), key });
  const seeds = [curve([1, 2], [1, 2]), curve([1, 2], [3, 4]), curve([1, 2], [5, 6])];
  const [a, b, c] = ["a", "b", "c"].map((key, i) => named(key, seeds[i]));
  const first = drawingOf([a, b], ["loss"], PLAIN);
  const next = drawingOf([{ ...c }, { ...b }], ["loss"], PLAIN);
  assert.equal(next.lines.find(({ key }) => key === "b"), first.lines[1]);
  assert.ok(isSameDrawing(first, drawingOf([{ ...a }, { ...b }], ["loss"], PLAIN)));
  assert.ok(!isSameDrawing(first, next));
  assert.notEqual(drawingOf([{ ...a, color: "#fff" }], ["loss"], PLAIN).lines[0], first.lines[0]);
  const smooth = { ...PLAIN, smooth: 0.5 };
  assert.notEqual(drawingOf([a], ["loss"], smooth).lines[0], first.lines[0]);

  const groups = (...lists) => drawingOf(
    lists.map((list, i) => named(`g${i}`, ...list)), ["loss"], { ...PLAIN, isGrouped: true },
  ).bands;
  const [one] = groups(seeds.slice(0, 2));
  assert.equal(groups(seeds.slice(0, 2), seeds.slice(2))[0], one);
  assert.notEqual(groups(seeds)[0], one);
});

test("a part that is drawn already is the same object, and so is the list of unchanged parts", () => {
  const parts = () => rows.slice(0, 3).map((one) => ({ key: one.key, label: one.id, rows: [one] }));
  const before = parts();
  assert.equal(keptParts(parts(), before), before);
  const [other, second, ...rest] = parts().reverse();
  const found = keptParts([other, { ...second, label: "renamed" }], before);
  assert.equal(found[0], before[2]);
  assert.notEqual(found[1], before[1]);
  assert.equal(rest.length, 1);
});

test("charts are in sections by what their metrics have before a slash, the others last", () => {
  const loss = { better: "min", weight: 3, base: "loss" };
  learnMetrics({
    "train/loss": { ...loss, held_out: false }, "val/loss": { ...loss, held_out: true },
  });
  const list = charts(["lr", "train/loss", "val/loss", "train/grad/w1", "val/acc", "train/grad/w2"], "");
  const sections = sectionsOf(list).map(({ title, charts: own }) => [title, own.length]);
  assert.deepEqual(Object.fromEntries(sections), { "train, val": 1, train: 2, val: 1, "": 1 });
  assert.equal(sections.at(-1)[0], "");
});

test("a curve over another metric has its values there, in their order, and is the same each time", () => {
  const tokens = curve([1, 2, 4], [10, 20, 5]);
  const found = overMetric(curve([1, 2, 3, 9], [0.1, 0.2, 0.3, 0.9]), tokens);
  assert.deepEqual([[...found.xs], [...found.ys]], [[10, 12.5, 20], [0.1, 0.3, 0.2]]);
  const loss = curve([1, 2], [3, 4]);
  assert.equal(overMetric(loss, tokens), overMetric(loss, tokens));
  assert.notEqual(overMetric(loss, tokens), overMetric(loss, curve([1, 2], [7, 8])));
  assert.equal(overMetric(loss, undefined), undefined);
});

test("a y axis ends where it was chosen, where that makes an axis", () => {
  const ends = (limits, more = {}) =>
    drawingOf([part(curve([1, 2], [1, 2]))], ["loss"], { ...PLAIN, outliers: true, limits, ...more }).extent.y;
  const [low, high] = ends([null, null]);
  assert.deepEqual(ends([0.5, null]), [0.5, high]);
  assert.deepEqual(ends([0.5, 8]), [0.5, 8]);
  assert.deepEqual(ends([7, null]), [low, high]);
  assert.ok(ends([-1, null], { isLog: true })[0] > 0);
});
