import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { Lab, type LabOptions } from "../../host/lab/lab.ts";
import type { LogLine } from "../../host/lab/log-watch.ts";
import { Program } from "./program.ts";

const DAEMONS = ["client", "gateway", "relay", "portal"] as const;

/** A lab for one test file: everything runs, and the end checks what every run must leave behind: nothing. */
export class TestLab {
  readonly lab: Lab;
  readonly #expected: RegExp[] = [];

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  /** Hosts and servers, no daemons yet. */
  static async create(options: Partial<LabOptions> = {}): Promise<TestLab> {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-test-"));
    return new TestLab(await Lab.create(directory, { udp: "native", logLevel: "debug", ...options }));
  }

  static async start(options: Partial<LabOptions> = {}): Promise<TestLab> {
    const testLab = await TestLab.create(options);
    try {
      await testLab.lab.startAll();
      return testLab;
    } catch (error) {
      await testLab.discard();
      throw error;
    }
  }

  /** Runs on the client; its standard output. Fails the test if the command fails. */
  async onClient(...command: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.lab.host("client").exec(command);
    assert.equal(code, 0, `${command.join(" ")}: ${stderr || stdout}`);
    return stdout;
  }

  async fetch(url: string): Promise<string> {
    return this.onClient("curl", "-sS", "--fail", "--max-time", "10", url);
  }

  /** The addresses that the client's system resolver gives for a name. */
  async resolve(name: string, family: "ahostsv4" | "ahostsv6" = "ahostsv4"): Promise<string[]> {
    const output = await this.onClient("getent", family, name);
    return [...new Set(output.split("\n").map((line) => line.split(/\s/)[0] ?? ""))].filter(Boolean);
  }

  /** Holds a TCP connection open from the client. */
  echo(address: string, localPort?: number): Program {
    const script = path.join(import.meta.dirname, "echo-client.ts");
    const args = localPort === undefined ? [] : [String(localPort)];
    return new Program(this.lab.host("client"), [process.execPath, script, address, "7000", ...args]);
  }

  /** What this scenario rightly warns about: lines whose message fits do not fail `finish`. */
  expectWarning(...messages: RegExp[]): void {
    this.#expected.push(...messages);
  }

  /** Lines that an operator would have to look at, those that were expected left out. */
  warnings(): LogLine[] {
    return DAEMONS.flatMap((name) => this.lab.log(name)).filter(
      ({ severity, message }) =>
        ["warn", "error"].includes(severity) && !this.#expected.some((pattern) => pattern.test(message)),
    );
  }

  /** Ends the lab after a test file: exit codes are 0, nobody warned, nothing stays. */
  async finish(): Promise<void> {
    try {
      for (const name of DAEMONS) {
        const code = await this.lab.stop(name);
        if (code !== undefined) assert.equal(code, 0, `${name} ended with exit code ${code}`);
      }
      assert.deepEqual(this.warnings(), []);
      const { stdout } = await this.lab.host("client").exec(["cat", "/etc/resolv.conf"]);
      assert.equal(stdout, "nameserver 203.0.113.53\n", "resolv.conf is as it was");
    } finally {
      await this.discard();
    }
  }

  async discard(): Promise<void> {
    await Program.stopAll();
    await this.lab.destroy();
    if (process.env["KEEP_LOGS"] === undefined)
      fs.rmSync(this.lab.directory, { recursive: true, force: true });
    else console.log(`logs kept in ${this.lab.directory}`);
  }
}
