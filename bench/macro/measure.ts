import fs from "node:fs";
import type { Lab } from "../../host/lab/lab.ts";

export interface Spread {
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  return {
    median: sorted[sorted.length >> 1] ?? Number.NaN,
    lowest: sorted[0] ?? Number.NaN,
    highest: sorted.at(-1) ?? Number.NaN,
  };
}

export interface Transfer {
  readonly gigabits: number;
  readonly retransmits: number;
}

/** One TCP stream with cubic, whatever this machine's default is. */
export async function tcpTransfer(
  lab: Lab,
  target: string,
  direction: "up" | "down",
  seconds: number,
): Promise<Transfer> {
  const reverse = direction === "down" ? ["-R"] : [];
  const { code, stdout } = await lab
    .host("client")
    .exec(
      ["iperf3", "-c", target, "-t", String(seconds), "-J", "-C", "cubic", ...reverse],
      (seconds + 15) * 1000,
    );
  if (code !== 0) throw new Error(`iperf3 to ${target}: ${stdout}`);
  const { end } = JSON.parse(stdout) as {
    end: { sum_received: { bits_per_second: number }; sum_sent: { retransmits?: number } };
  };
  return { gigabits: end.sum_received.bits_per_second / 1e9, retransmits: end.sum_sent.retransmits ?? 0 };
}

/** Milliseconds from curl's start, name look-up included, to the first byte of the page. */
export async function firstByteMs(lab: Lab, url: string): Promise<number> {
  const { code, stdout, stderr } = await lab
    .host("client")
    .exec([
      "curl",
      "-sS",
      "-o",
      "/dev/null",
      "--fail",
      "--max-time",
      "10",
      "-w",
      "%{time_starttransfer}",
      url,
    ]);
  if (code !== 0) throw new Error(`curl ${url}: ${stderr}`);
  return Number(stdout) * 1000;
}

/** Resident memory of a process in MiB, now and at its highest. */
export function residentMib(pid: number): { readonly now: number; readonly peak: number } {
  const status = fs.readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) / 1024;
  return { now: field("VmRSS"), peak: field("VmHWM") };
}
