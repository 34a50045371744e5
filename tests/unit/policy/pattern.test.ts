import assert from "node:assert/strict";
import { test } from "node:test";
import { comparePatterns, matches, type Pattern, parsePattern } from "../../../host/core/policy/pattern.ts";

function pattern(text: string): Pattern {
  const parsed = parsePattern(text);
  assert.ok(parsed !== undefined, `not a pattern: ${text}`);
  return parsed;
}

const MATCHES: readonly { pattern: string; yes: readonly string[]; no: readonly string[] }[] = [
  { pattern: "example.com", yes: ["example.com", "EXAMPLE.com"], no: ["a.example.com"] },
  { pattern: "*.example.com", yes: ["example.com", "a.example.com"], no: ["a.b.example.com"] },
  {
    pattern: "**.example.com",
    yes: ["example.com", "a.example.com", "a.b.example.com"],
    no: ["badexample.com"],
  },
  { pattern: "?.example.com", yes: ["a.example.com"], no: ["example.com", "ab.example.com"] },
  {
    pattern: "web-*.example.com",
    yes: ["web-1.example.com", "web-.example.com"],
    no: ["web-1.x.example.com"],
  },
  { pattern: "a.*.example.com", yes: ["a.b.example.com"], no: ["a.b.c.example.com", "a.example.com"] },
  { pattern: "a.**.example.com", yes: ["a.example.com", "a.b.c.example.com"], no: ["b.example.com"] },
  {
    pattern: "a.**.b.**.example.com",
    yes: ["a.b.example.com", "a.x.b.y.z.example.com"],
    no: ["a.example.com"],
  },
  { pattern: "a.*com", yes: ["a.com", "a.xcom"], no: ["a.x.com"] },
  { pattern: "a?com", yes: ["abcom"], no: ["a.com"] },
  { pattern: "**", yes: ["com", "a.b.c"], no: [] },
  { pattern: "internal.**", yes: ["internal.a", "internal.a.b"], no: ["internal", "a.internal"] },
  { pattern: "db[0-9].example.com", yes: ["db7.example.com"], no: ["dbx.example.com", "db10.example.com"] },
  { pattern: "db[!x]", yes: ["dby"], no: ["dbx", "db"] },
  { pattern: "*.Example.COM", yes: ["example.com", "A.EXAMPLE.com"], no: ["com"] },
];

for (const { pattern: text, yes, no } of MATCHES) {
  test(`${text} matches what the grammar says and nothing else (tunnel-core 11.10)`, () => {
    for (const name of yes) assert.equal(matches(pattern(text), name), true, `${text} must match ${name}`);
    for (const name of no)
      assert.equal(matches(pattern(text), name), false, `${text} must not match ${name}`);
  });
}

test("a leading star and dot also match the parent, but not two levels down (tunnel-core 24.19)", () => {
  const parsed = pattern("*.example.com");
  const results = ["example.com", "a.example.com", "a.b.example.com"].map((name) => matches(parsed, name));
  assert.deepEqual(results, [true, true, false]);
});

test("patterns that mix ** with characters, triple a star or leave a bracket open are refused", () => {
  for (const text of [
    "",
    "a**.example.com",
    "**a.example.com",
    "***.example.com",
    "a.[bc.example.com",
    "db[",
  ]) {
    assert.equal(parsePattern(text), undefined, text);
  }
});

test("a pattern of many stars is matched in bounded time", () => {
  const parsed = pattern(`${"*a".repeat(30)}.${"**.a.".repeat(20)}b`);
  const name = `${"a".repeat(60)}.${"a.".repeat(60)}c`;
  const startedAt = performance.now();
  assert.equal(matches(parsed, name), false);
  assert.ok(performance.now() - startedAt < 1000);
});

test("the most specific of two patterns is the literal one (tunnel-core 24.17)", () => {
  assert.ok(comparePatterns(pattern("foo.example.com"), pattern("**.example.com")) < 0);
  assert.ok(comparePatterns(pattern("**.example.com"), pattern("foo.example.com")) > 0);
});

test("patterns sort from most to least specific (tunnel-core 24.18)", () => {
  const expected = [
    "example.com",
    "bar.example.com",
    "*.bar.example.com",
    "foo.example.com",
    "?.example.com",
    "*.example.com",
    "**.example.com",
    "*ample.com",
    "*.com",
  ];
  for (let rotation = 0; rotation < expected.length; rotation++) {
    const shuffled = [...expected.slice(rotation), ...expected.slice(0, rotation)].reverse();
    const sorted = shuffled.map(pattern).sort(comparePatterns);
    assert.deepEqual(
      sorted.map((entry) => entry.text),
      expected,
    );
  }
});
