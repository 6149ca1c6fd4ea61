import "./modules.mjs";

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const { learnMetrics } = await import("casket/model/facts");
const address = await import("casket/model/address");
const { bandOf } = await import("casket/curves/align");
const { bestValues, groupsInOrder, groupsOf, inOrder } = await import("casket/model/arrange");
const { chosenIn, paletteOf, repeatsOf, slotOf } = await import("casket/shell/colors");
const { labels, labelsOfX, logTicks, ticks, ticksOfX } = await import("casket/model/axis");
const { difference, settingsOf } = await import("casket/model/settings");
const { drawingOf, othersOf } = await import("casket/curves/drawing");
const { csv } = await import("casket/model/files");
const { charts, mainMetric } = await import("casket/model/metrics");
const { scales, traced } = await import("casket/curves/painter");
const { smoothed } = await import("casket/curves/smoothing");
const { EmbeddedSource } = await import("casket/model/source");
const decided = JSON.parse(readFileSync(new URL("../metric_cases.json", import.meta.url)));
learnMetrics(Object.fromEntries(decided.facts));

const BOX = { left: 0, top: 0, width: 100, height: 100 };
const PLAIN = { smooth: 0, isLog: false, band: "range", range: null, x: "number" };

const floats = (...numbers) => Float64Array.from(numbers);
const curve = (xs, ys, more = {}) => ({
  xs: floats(...xs), ys: floats(...ys), count: xs.length, shown: xs.length, leftOut: 0, ...more,
});
const part = (key, ...curves) => ({ key, label: key, color: "#000", curves: { loss: curves } });
const row = (id, more = {}) => ({
  key: `0.${id}`, id, status: "completed", started: `2026-01-01T00:00:0${id.length}Z`,
  params: {}, config: {}, meta: {}, last: {}, best: {}, tags: [], ...more,
});

test("an address says only what is not as usual, and reads back the same", () => {
  const state = {
    ...address.DEFAULTS,
    where: "params.lr < 0.1 and 'a&b#=%' in tags",
    selected: ["9f31", "a2c4"],
    columns: ["params.a,b", "last.loss"],
    log: true,
    smooth: 0.6,
    range: [3, 17.5],
    explore: {
      x: "params.lr",
      y: "3",
      color: "",
      logX: false,
      axes: ["a,b", "5"],
      brushed: { "params.lr": [0.1, 1], "params.opt": ["adam"] },
      slices: { C: "1" },
    },
  };
  const hash = address.format(state);
  assert.deepEqual(address.parse(hash), state);
  assert.equal(address.format(address.DEFAULTS), "");
});

test("an address that means nothing is the first page", () => {
  const hash = "#view=nowhere&smooth=x&range=9~1&__proto__=1&%=%&show=7&log=no";
  assert.deepEqual(address.parse(hash), { ...address.DEFAULTS, explore: {} });
});

test("names of the charts in an address are text, whatever they look like", () => {
  const { explore } = address.parse("#explore.x=5&explore.y=[1]&explore.color={}");
  assert.deepEqual(explore, { x: "5", y: "[1]", color: "{}" });
});

test("what the charts do not know, or cannot use, is left out of an address", () => {
  const parts = [
    'explore.__proto__={"x":5}', "explore.constructor=x", "explore.axes=[1,2]", "explore.axes=x",
    'explore.brushed={"lr":5}', 'explore.brushed={"lr":[]}', 'explore.brushed={"lr":[1,"a"]}',
    "explore.brushed=[1]", 'explore.slices={"C":[1]}', "explore.logX=1", "explore.mode=middle",
  ];
  for (const part of parts) {
    const { explore } = address.parse(`#${part}`);
    assert.deepEqual(explore, {}, part);
    assert.equal(Object.getPrototypeOf(explore), Object.prototype, part);
  }
});

test("a view begins anew without its own part of an address, and with all other parts", () => {
  const state = address.parse("#view=explore&where=x&sort=lr&explore.x=lr");
  const anew = { ...state, ...address.atFirst("explore") };
  assert.equal(address.format(anew), "#view=explore&where=x&sort=lr");
});

test("sessions stand in an address by the shortest names that no other has", () => {
  const rows = [row("abcdef01"), row("abcdef99"), row("12345678")];
  const names = address.shortNames(rows);
  assert.deepEqual([...names.values()].sort(), ["1234", "abcdef0", "abcdef9"]);
  const state = address.parse("#selected=abcdef9,1234");
  assert.deepEqual(address.resolve(state, rows).selected, ["0.abcdef99", "0.12345678"]);
});

test("the same id in two files is told apart", () => {
  const rows = [row("abcdef01"), { ...row("abcdef01"), key: "1.abcdef01" }];
  assert.deepEqual([...address.shortNames(rows).values()].sort(), ["0.abcdef01", "1.abcdef01"]);
});

test("smoothing begins at the first value and passes over NaN", () => {
  assert.deepEqual([...smoothed(floats(1, 2, 3), floats(4, NaN, 4), 0.9)], [4, NaN, 4]);
});

test("smoothing depends on distance, not on how many points there are", () => {
  const xs = Array.from({ length: 101 }, (_, i) => i);
  const ys = xs.map((x) => Number(x >= 50));
  const whole = smoothed(floats(...xs), floats(...ys), 0.9);
  const half = (values) => values.filter((_, i) => i % 2 === 0);
  const fewer = smoothed(floats(...half(xs)), floats(...half(ys)), 0.9, 100);
  for (const x of [40, 60, 80, 100]) assert.ok(Math.abs(whole[x] - fewer[x / 2]) < 0.06);
});

test("a band goes as far as any curve, and its mean is of those that are there", () => {
  const band = bandOf([curve([1, 2, 3], [1, 1, 1]), curve([1, 2], [3, 5])], "range");
  assert.deepEqual([...band.mean], [2, 3, 1]);
  assert.deepEqual([...band.low], [1, 1, 1]);
  assert.deepEqual([...band.high], [3, 5, 1]);
});

test("a band over unlike numbers is brought onto one grid", () => {
  const band = bandOf([curve([0, 10], [0, 10]), curve([0.5, 9.5], [0.5, 9.5])], "range");
  assert.ok(band.mean.every((value, i) => Math.abs(value - band.xs[i]) < 1e-9));
});

test("a line is broken where it is NaN, and where values are missing", () => {
  const at = scales(BOX, [0, 10], [0, 10], false);
  const { runs, gaps, marks } = traced(
    { xs: [0, 1, 2, 3, 9, 10], ys: [1, NaN, 1, 1, 1, Infinity], gap: 4 }, at,
  );
  assert.equal(runs.length, 3);
  assert.equal(gaps.length, 1);
  assert.deepEqual(marks, [[10, NaN], [100, Infinity]]);
});

test("what a log axis cannot show, what is NaN and what is down-sampled is counted", () => {
  const curves = [curve([1, 2, 3], [0, -1, NaN], { count: 900, shown: 3 })];
  const { tally, extent } = drawingOf([part("a", ...curves)], ["loss"], { ...PLAIN, isLog: true });
  assert.equal(tally.below, 2);
  assert.equal(tally.odd, 1);
  assert.equal(tally.down, 1);
  assert.ok(extent.y[0] > 0);
});

test("the extent is of what is seen, with the raw line behind a smoothed one", () => {
  const long = curve([1, 2, 3, 4], [100, 1, 5, 1]);
  const { extent } = drawingOf([part("a", long)], ["loss"], { ...PLAIN, smooth: 0.9, range: [2, 4] });
  assert.ok(extent.y[1] > 5);
  const { extent: narrow } = drawingOf([part("a", long)], ["loss"], { ...PLAIN, range: [2, 4] });
  assert.ok(narrow.y[1] < 6);
});

test("curves that are not drawn are their median with the middle 80 %, if there are three", () => {
  const others = Array.from({ length: 11 }, (_, i) => curve([1, 2], [i, 10 * i]));
  const band = othersOf([...others, undefined], "gray", "number");
  assert.deepEqual([...band.low].map(Math.round), [1, 10]);
  assert.deepEqual([...band.mean], [5, 50]);
  assert.deepEqual([...band.high].map(Math.round), [9, 90]);
  assert.equal(othersOf([...others], "gray", "number"), band);
  assert.equal(othersOf(others.slice(0, 2), "gray", "number"), null);
});

test("training and validation of a metric go into one chart, the main one first", () => {
  const list = charts(["loss", "acc", "val_loss", "val_acc", "test_f1"], "val_acc");
  assert.deepEqual(list.map(({ title }) => title), ["acc", "loss", "test_f1"]);
  assert.deepEqual(list[0].metrics, ["acc", "val_acc"]);
});

test("the main metric is one of unseen data", () => {
  const best = { loss: 1, acc: 1, val_loss: 1, val_acc: 1 };
  assert.equal(mainMetric([row("a", { best })]), "val_acc");
  assert.equal(mainMetric([row("a")]), "");
});

test("missing values and NaN stand last, whichever way the order goes", () => {
  const rows = [2, "NaN", undefined, 1].map((loss, i) =>
    row("abcd"[i], { last: loss === undefined ? {} : { loss } }),
  );
  const ids = (sort) => inOrder(rows, sort).map(({ id }) => id).join("");
  assert.equal(ids("last.loss").slice(0, 2), "da");
  assert.equal(ids("-last.loss").slice(0, 2), "ad");
});

test("what runs comes first, then the newest", () => {
  const rows = [row("a"), row("bb"), row("ccc", { status: "running" }), row("dddd")];
  assert.deepEqual(inOrder(rows, "").map(({ id }) => id), ["ccc", "dddd", "bb", "a"]);
});

test("groups are of equal values, and a number is not its text", () => {
  const rows = [1, "1", 1, undefined].map((lr, i) => row("abcd"[i], { params: { lr } }));
  assert.deepEqual(groupsOf(rows, ["params.lr"]).map(({ rows: own }) => own.length), [2, 1, 1]);
});

test("the best value of a column is the lowest loss and the highest accuracy", () => {
  const rows = [
    row("a", { last: { loss: 1, acc: 0.5, lr: 1 } }),
    row("b", { last: { loss: 2, acc: 0.9, lr: 2 } }),
  ];
  const found = bestValues(rows, ["last.loss", "last.acc", "last.lr", "epochs"]);
  assert.deepEqual([...found], [["last.loss", 1], ["last.acc", 0.9]]);
});

test("a cell of CSV keeps commas, quotes and line ends", () => {
  assert.equal(csv([["a,b", 'say "x"', "1\n2", null, [1]]]), '"a,b","say ""x""","1\n2",,[1]\r\n');
});

test("text that a spreadsheet would take for a formula is marked, and a number is not", () => {
  const formulas = ["=A1", "+A1", "-A1", "@A1", "\tA1", "\rA1", "-1+A1"];
  const cells = csv(formulas.map((text) => [text])).split("\r\n").slice(0, -1);
  const expected = formulas.map((text) => (text === "\rA1" ? `"'${text}"` : `'${text}`));
  assert.deepEqual(cells, expected);
  const numbers = [-1, -Infinity, "-Infinity", "-1", "+1.5e-3", "-.5"];
  assert.equal(csv([numbers]), "-1,-Infinity,-Infinity,-1,+1.5e-3,-.5\r\n");
});

test("a report saves every metric as CSV where it was logged, whatever its name", async () => {
  const curve = (metric, x, y) => ({ session: "0.a", metric, x, y });
  const curves = [curve("__proto__", 0, [5, 6]), curve("constructor", 1, [7])];
  const source = new EmbeddedSource({ curves: { epoch: { xs: [[1, 2], [2]], curves } } });
  const text = await (await source.csvOfRows("0.a", "epoch")).text();
  assert.equal(text, "epoch_num,__proto__,constructor\r\n1,5,\r\n2,6,7\r\n");
});

test("a color follows from the id or the values of a group alone, unless it was chosen", () => {
  const none = new Map();
  assert.equal(slotOf("3.c", none), slotOf("0.c", none));
  const keys = Array.from({ length: 400 }, (_, i) => `0.${i}`);
  assert.equal(new Set(keys.map((key) => slotOf(key, none))).size, paletteOf("light").length);
  for (const scheme of ["light", "dark"]) {
    assert.equal(new Set(paletteOf(scheme)).size, paletteOf("light").length);
  }
  const chosen = chosenIn(["3~0.c", "17~[0.1]", "99~0.d", "x~0.e", "4"]);
  assert.deepEqual([...chosen], [["c", 3], ["[0.1]", 17]]);
  assert.deepEqual([slotOf("5.c", chosen), slotOf("[0.1]", chosen)], [3, 17]);
});

test("of those that are drawn in the same color each but the first is counted as a repetition", () => {
  const chosen = chosenIn(["3~0.a", "3~0.b", "3~0.c", "4~0.d"]);
  const found = repeatsOf(["0.c", "0.d", "1.a", "0.b"], chosen);
  assert.deepEqual(Object.fromEntries(found), { "0.c": 0, "0.d": 0, "1.a": 1, "0.b": 2 });
});

test("the line of a repeated color has dashes of its own", () => {
  const dashOf = (repeat) => drawingOf([{ ...part("a", curve([1, 2], [1, 2])), repeat }], ["loss"], PLAIN)
    .lines[0].dash;
  assert.deepEqual(dashOf(0), []);
  assert.ok(dashOf(1).length > 0);
});

test("groups stand in the order in which their first sessions began, as casket ls has them", () => {
  const rows = [[0.1, 3], [0.001, 1], [0.1, 2], [0.01, 4]].map(([lr, second]) =>
    row(`s${second}`, { params: { lr }, started: `2026-01-01T00:00:0${second}Z` }),
  );
  const found = groupsInOrder(groupsOf(rows, ["params.lr"]), "");
  assert.deepEqual(found.map(({ values }) => values[0]), [0.001, 0.1, 0.01]);
});

test("results are the goal only where no metric has a best epoch", () => {
  learnMetrics({ test_acc: { better: "max", held_out: true, weight: 4, base: "acc" } });
  const trained = row("a", { best: { loss: 0.1 }, last: { loss: 0.1, test_acc: 0.9 } });
  assert.equal(mainMetric([trained]), "loss");
  assert.equal(mainMetric([row("b", { best: {}, last: { test_acc: 0.9 } })]), "test_acc");
});

test("an axis has marks that differ, however large, small or far from zero its numbers are", () => {
  const ends = [[0, 1], [-3, 7], [1e5, 1e5 + 0.5], [123456, 123460], [0, 3e34], [1e-29, 5e-29]];
  for (const [low, high] of [...ends, [-1e300, 1e300], [1e16, 1e16 + 8], [5e-324, 1e-323]]) {
    const marks = ticks([low, high], 6);
    assert.ok(marks.length < 50, `${low} to ${high}`);
    assert.ok(marks.every((mark) => mark >= low && mark <= high), `${low} to ${high}`);
    if (low < 1e16) assert.equal(new Set(labels(marks)).size, marks.length, `${low} to ${high}`);
  }
  assert.deepEqual(labels(ticks([0, 3e34], 6)).slice(0, 2), ["0", "1e+34"]);
  assert.deepEqual(labels([100000, 100001, 123456]), ["100000", "100001", "123456"]);
});

/** Returns numbers from 0 to 1, the same in every run. */
function dice(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

test("marks of an axis differ and lie on it, wherever it is and however short", () => {
  const roll = dice(18);
  for (let i = 0; i < 4000; i += 1) {
    const size = 10 ** (roll() * 80 - 40);
    const low = (roll() - 0.5) * size;
    const high = low + size * 10 ** -(roll() * 10);
    const marks = ticks([low, high], 2 + roll() * 8);
    const texts = labels(marks);
    const said = `${low} to ${high}: ${texts}`;
    assert.ok(marks.length >= 1 && marks.length < 14, said);
    assert.ok(marks.every((mark) => mark >= low && mark <= high), said);
    assert.equal(new Set(texts).size, marks.length, said);
    assert.ok(texts.every((text, at) => Math.abs(Number(text) - marks[at]) <= (high - low) / 1e3), said);
    const [from, to] = [size, size * (1 + 10 ** (roll() * 6 - 3))];
    const logTexts = labels(logTicks([from, to]));
    assert.equal(new Set(logTexts).size, logTexts.length, `${from} to ${to}: ${logTexts}`);
    assert.ok(logTexts.length >= 1, `${from} to ${to}`);
  }
});

test("marks of times and clock times differ at any zoom, and are in UTC over 24 hours", () => {
  const roll = dice(14);
  for (let i = 0; i < 3000; i += 1) {
    for (const x of ["number", "time", "wall"]) {
      const start = { number: 1e9 * roll(), time: 1e6 * roll() ** 4, wall: 1.8e9 * roll() }[x];
      const low = x === "number" ? Math.round(start) : start;
      const high = low + (x === "number" ? 1 + Math.round(10 ** (roll() * 9)) : 10 ** (roll() * 9 - 1));
      const marks = ticksOfX([low, high], 2 + roll() * 8, x);
      const texts = labelsOfX(marks, x);
      const said = `${x} ${low} to ${high}: ${texts}`;
      assert.ok(marks.length < 22, said);
      assert.ok(marks.length >= 1 || x === "number", said);
      assert.equal(new Set(texts).size, marks.length, said);
    }
  }
  const noon = Date.UTC(2026, 11, 1, 12) / 1000;
  const of = (range, count) => labelsOfX(ticksOfX(range, count, "wall"), "wall");
  assert.deepEqual(of([noon, noon + 7200], 4), ["12-01 12:00", "12:30", "13:00", "13:30", "14:00"]);
  assert.deepEqual(of([noon, noon + 4], 2), ["12-01 12:00:00", "12:00:02", "12:00:04"]);
  assert.deepEqual(of([noon, noon + 3 * 86400], 3), ["12-02", "12-03", "12-04"]);
  assert.deepEqual(of([noon, noon + 2 * 86400], 4).at(-1), "12-03 12:00");
  assert.deepEqual(labelsOfX([3600, 3601, 3602], "time"), ["1 h", "1 h 1 s", "1 h 2 s"]);
  assert.deepEqual(labelsOfX([0, 60, 120], "time"), ["0 s", "1 min", "2 min"]);
  assert.deepEqual(labelsOfX([3600.1, 3600.2], "time"), ["3600.1 s", "3600.2 s"]);
});

test("settings are sessions that differ in their seed only, the best mean first", () => {
  const given = [[0.1, 0, 0.7], [0.1, 1, 0.8], [0.01, 0, 0.9], [0.01, 1, 0.99], [0.01, 2, 0.9]];
  const rows = given.map(([lr, seed, acc], i) =>
    row(`s${i}`, { params: { lr, seed }, best: { val_acc: acc }, status: "completed" }),
  );
  learnMetrics({ val_acc: { better: "max", held_out: true, weight: 4, base: "acc" } });
  const failed = row("f", { params: { lr: 1, seed: 0 }, best: { val_acc: 1 }, status: "failed" });
  const [one, other, ...rest] = settingsOf([...rows, failed], "val_acc", ["params.lr", "params.seed"]);
  assert.deepEqual([one.n, other.n, rest.length], [3, 2, 0]);
  assert.ok(Math.abs(one.mean - 0.93) < 1e-12);
  const { n, mean, isSettled } = difference(one, other);
  assert.deepEqual([n, Number(mean.toFixed(3)), isSettled], [2, 0.195, true]);
});
