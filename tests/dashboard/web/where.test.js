import "./modules.mjs";

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const { isKnown, metricsOf } = await import("casket/model/facts");
const { hintOf, offeredNames } = await import("casket/where/names");
const { Mistake, compile } = await import("casket/where/where");
const shared = JSON.parse(readFileSync(new URL("../where_cases.json", import.meta.url)));

for (const [expression, expected, message] of shared.cases) {
  if (typeof expected === "boolean") {
    test(`${expression} is ${expected}`, () => {
      assert.equal(compile(expression, metricsOf([shared.row]))(shared.row), expected);
    });
  } else {
    test(`${expression} is refused at ${expected}`, () => {
      const mistake = refusal(expression);
      assert.equal(Array.from(expression.slice(0, mistake.position)).length, expected);
      assert.ok(mistake.message.startsWith(message), mistake.message);
    });
  }
}

for (const [expression, position, message] of shared.hints) {
  test(`${expression} gets a hint`, () => {
    const name = compile(expression).names.find(({ parts }) => !isKnown(parts, [shared.row]));
    assert.equal(name.start, position);
    assert.equal(hintOf(name, expression, offeredNames([shared.row], [])), message);
  });
}

test("what is too long or nested too deeply is refused, not tried", () => {
  assert.match(refusal("x".repeat(10_001)).message, /shorter/);
  assert.match(refusal("not ".repeat(60) + "x").message, /too deeply/);
  assert.match(refusal("-".repeat(9000) + "1").message, /too deeply/);
  assert.throws(() => compile("(".repeat(5000)), Mistake);
});

test("a whole number that a browser would round is compared exactly", () => {
  const holds = (expression) => compile(expression)({ params: { seed: "9007199254740993" } });
  for (const expression of [
    "seed == 9007199254740993", "seed != 9007199254740992", "seed > 9007199254740992",
    "seed in [1, 9007199254740993]", "5 < seed < 1e300", "lr is None or lr < 9007199254740993",
  ]) assert.equal(holds(expression), true, expression);
});

test("a bare name is a metric if any session has one of that name, else a param", () => {
  const rows = [{ params: { lr: 1, x: 2 }, last: { lr: 3 } }, { params: { lr: 5 }, last: {} }];
  const fits = (expression) => rows.map(compile(expression, metricsOf(rows)));
  assert.deepEqual(fits("lr == 3"), [true, false]);
  assert.deepEqual(fits("lr == 5"), [false, false]);
  assert.deepEqual(fits("x == 2"), [true, false]);
});

test("a value that is called like a part of JavaScript is not found", () => {
  for (const name of ["constructor", "toString", "params.constructor", "params.hasOwnProperty"]) {
    assert.equal(compile(`${name} is None`)(shared.row), true, name);
  }
});

test("a session that runs has no end", () => {
  const row = { ...shared.row, ended: null };
  assert.equal(compile("ended is None")(row), true);
  assert.equal(compile("ended > '2020-01-01'")(row), false);
});

test("the names in a condition are found, and those that nothing has", () => {
  const text = `val_lss < 0.1 and not params["a b"].c[0] in tags or "x" == status and -duration > 1`;
  const names = [["val_lss"], ["params", "a b", "c"], ["tags"], ["status"], ["duration"]];
  assert.deepEqual(compile(text).names.map(({ parts }) => parts), names);
  const rows = [{ params: {}, last: { loss: null } }, { params: { "a b": { c: [] } }, last: {} }];
  const unknown = names.filter((parts) => !isKnown(parts, rows));
  assert.deepEqual(unknown, [["val_lss"]]);
  assert.ok(isKnown(["loss"], rows));
  assert.ok(!isKnown(["params", "x"], rows));
  assert.ok(isKnown(["params", "x"], [{ params: {}, partial: ["params"] }]));
});

function refusal(expression) {
  try {
    compile(expression);
  } catch (error) {
    assert.ok(error instanceof Mistake, String(error));
    return error;
  }
  return assert.fail(`${expression} was read`);
}
