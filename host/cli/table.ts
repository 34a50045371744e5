/** Aligns columns with two spaces between; nothing behind the last one. */
export function table(rows: readonly (readonly string[])[], indent = ""): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  return rows
    .map((row) => `${indent}${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ")}`.trimEnd())
    .join("\n");
}

const STEPS = [
  { ms: 86_400_000, unit: "d" },
  { ms: 3_600_000, unit: "h" },
  { ms: 60_000, unit: "min" },
  { ms: 1000, unit: "s" },
];

/** `3 d 4 h`, `12 min 5 s`, `80 ms`: the two largest units. */
export function durationText(ms: number): string {
  const first = STEPS.findIndex((step) => ms >= step.ms);
  const [large, small] = [STEPS[first], STEPS[first + 1]];
  if (large === undefined) return `${Math.round(ms)} ms`;
  const rest = Math.floor((ms % large.ms) / (small?.ms ?? large.ms));
  const text = `${Math.floor(ms / large.ms)} ${large.unit}`;
  return small === undefined || rest === 0 ? text : `${text} ${rest} ${small.unit}`;
}

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytesText(bytes: number): string {
  const power = bytes === 0 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), BYTE_UNITS.length - 1);
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(1)} ${BYTE_UNITS[power]}`;
}
