import "./modules.mjs";

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const facts = await import("casket/model/facts");
const { compile } = await import("casket/where/where");
const numbers = JSON.parse(readFileSync(new URL("../number_cases.json", import.meta.url)));

const empty = { params: {}, config: {}, meta: {}, last: {}, best: {} };
const row = (params, last = {}, more = {}) => ({ ...empty, params, last, ...more });

test("which way a metric is better is what the server sent", () => {
  assert.equal(facts.better("val_loss"), null);
  facts.learnMetrics({ val_loss: { better: "min", held_out: true, weight: 4, base: "loss" } });
  assert.equal(facts.better("val_loss"), "min");
  assert.equal(facts.better("best.val_loss"), "min");
  assert.equal(facts.factsOf("val_loss").base, "loss");
  assert.equal(facts.factsOf("other").base, "other");
});

for (const [value, text] of numbers.numbers) {
  test(`${value} is shown as ${text}`, () => {
    assert.equal(facts.shownNumber(facts.restored(value)), text);
  });
}

for (const [values, texts] of numbers.columns) {
  test(`a column of ${values} is shown as ${texts}`, () => {
    const digits = facts.digitsApart(values.map(facts.restored));
    const shown = values.map((value, i) =>
      texts[i] === null ? null : facts.shown(facts.restored(value), "", digits),
    );
    assert.deepEqual(shown, texts);
  });
}

for (const [mean, margin, text] of numbers.margins) {
  test(`${mean} and ${margin} are shown as ${text}`, () => {
    assert.equal(facts.withMargin(mean, facts.restored(margin)), text);
  });
}

test("the exact value has all digits", () => {
  assert.equal(facts.shown([0.30000000000000004], "", facts.EXACT), "[0.30000000000000004]");
});

test("a name means a param, a metric or a fact of the session", () => {
  const known = row({ lr: 0.1, opt: { name: "adam" } }, { "test.acc": 0.9 }, { status: "failed" });
  assert.equal(facts.valueOf(known, "params.lr"), 0.1);
  assert.equal(facts.valueOf(known, "params.opt.name"), "adam");
  assert.equal(facts.valueOf(known, "test.acc"), 0.9);
  assert.equal(facts.valueOf(known, "last.test.acc"), 0.9);
  assert.equal(facts.valueOf(known, "status"), "failed");
  assert.equal(facts.valueOf(known, "params.absent"), undefined);
});

test("every flat name leads back to its value", () => {
  const odd = row({ "a.b": 1, c: { "d.e": 2, f: { "": 3 } }, __proto__x: 4, "<b>": { "\0": 5 } });
  for (const [name, value] of Object.entries(facts.flatten(odd.params, "params."))) {
    assert.equal(facts.valueOf(odd, name), value, name);
  }
});

test("a key called __proto__ is a key", () => {
  const parsed = JSON.parse('{"__proto__": {"lr": 1}, "a": 2}');
  assert.deepEqual(Object.keys(facts.flatten(parsed)), ["__proto__.lr", "a"]);
});

test("NaN and infinities are numbers again", () => {
  const known = row({}, { a: "NaN", b: "Infinity", c: "-Infinity" });
  assert.deepEqual(["a", "b", "c"].map((n) => facts.valueOf(known, n)), [NaN, Infinity, -Infinity]);
});

test("how long a running session runs and was silent is counted on", () => {
  const started = new Date(Date.now() - 60_000).toISOString();
  const running = row({}, {}, { started, ended: null, duration: 1, last_seen: started });
  assert.ok(facts.valueOf(running, "duration") >= 60);
  assert.ok(facts.valueOf(running, "age") >= 60);
});

test("what varies is named, params first", () => {
  const rows = [
    { ...row({ lr: 1, same: 2, opt: { a: [1] } }), meta: { host: "x" } },
    { ...row({ lr: 2, same: 2, opt: { a: [2] }, only: 1 }), meta: { host: "y" } },
  ];
  const names = ["params.lr", "params.opt.a", "params.only", "meta.host"];
  assert.deepEqual(facts.varyingNames(rows), names);
});

test("a name is written so that the where language reads it", () => {
  const rows = [row({ lr: 1, "weird key": 2, "a.b": { c: 3 }, opt: { "x.y": 4, class: 5 } })];
  rows[0].params['quote"\\\n\u2028'] = 6;
  rows[0].last = { "val/loss": 7, "test.acc": 8, __x: 9, status: 10 };
  for (const [name, value] of Object.entries({
    ...facts.flatten(rows[0].params, "params."),
    "val/loss": 7,
    "test.acc": 8,
    __x: 9,
  })) {
    const expression = `${facts.written(name, rows)} == ${value}`;
    assert.equal(compile(expression)(rows[0]), true, expression);
  }
});

test("cells are short", () => {
  assert.equal(facts.shown(0.123456789), "0.1234568");
  assert.equal(facts.shown(1234567), "1234567");
  assert.equal(facts.shown(0.0000123456), "1.23456e-5");
  assert.equal(facts.shown(NaN), "NaN");
  assert.equal(facts.shown(null), "");
  assert.equal(facts.shown([1, "a", null, { b: true }]), "[1, a, null, {b: true}]");
  assert.equal(facts.shown("2026-11-23T08:57:10.123456+00:00"), "2026-11-23 08:57:10");
  assert.equal(facts.shown(3725, "duration"), "1 h 2 min");
});
