import "./modules.mjs";

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const { isKnown } = await import("casket/model/facts");
const { Mistake, compile, namesIn } = await import("casket/where/where");
const shared = JSON.parse(readFileSync(new URL("../where_cases.json", import.meta.url)));

for (const [expression, expected] of shared.cases) {
  if (typeof expected === "boolean") {
    test(`${expression} is ${expected}`, () => {
      assert.equal(compile(expression)(shared.row), expected);
    });
  } else {
    test(`${expression} is refused at ${expected}`, () => {
      const { position } = refusal(expression);
      assert.equal(Array.from(expression.slice(0, position)).length, expected);
    });
  }
}

test("a mistake says what to write instead", () => {
  assert.match(refusal("params.lr = 1").message, /'=' is not read; write ==/);
  assert.match(refusal("a && b").message, /write and/);
  assert.match(refusal("params.lambda > 1").message, /params\["lambda"\]/);
  assert.match(refusal("len(tags)").message, /functions cannot be called/);
  assert.match(refusal("").message, /empty/);
});

test("what is too long or nested too deeply is refused, not tried", () => {
  assert.match(refusal("x".repeat(10_001)).message, /shorter/);
  assert.match(refusal("not ".repeat(60) + "x").message, /too deeply/);
  assert.match(refusal("-".repeat(9000) + "1").message, /too deeply/);
  assert.throws(() => compile("(".repeat(5000)), Mistake);
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
  assert.deepEqual(namesIn(text), names);
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
