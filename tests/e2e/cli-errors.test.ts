import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { portalConfiguration } from "../../host/lab/policy.ts";

const MAIN = path.resolve(import.meta.dirname, "../../host/cli/main.ts");
const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const PORTAL = ["--portal", "ws://127.0.0.1:1"];

let directory = "";
before(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-cli-"));
});
after(() => fs.rmSync(directory, { recursive: true, force: true }));

describe("the command line", () => {
  test("every command explains itself with --help", () => {
    for (const [command, mention] of [
      [[], /client[\s\S]*gateway[\s\S]*relay[\s\S]*portal[\s\S]*lab/],
      [["client"], /--portal <url>[\s\S]*--token-file <file>[\s\S]*--dns-control <how>/],
      [["gateway"], /--portal <url>[\s\S]*--token-file <file>[\s\S]*--no-forwarding/],
      [["relay"], /--public-ipv4 <address>/],
      [["portal"], /check[\s\S]*token/],
      [["portal", "check"], /--config <file>/],
      [["portal", "token"], /create[\s\S]*list[\s\S]*revoke/],
      [["portal", "token", "create"], /--kind <kind>[\s\S]*--expires <duration>/],
      [["portal", "token", "list"], /--config <file>/],
      [["portal", "token", "revoke"], /<id>/],
      [["lab"], /Usage: culvert lab/],
    ] as const) {
      const { code, stdout } = culvert([...command, "--help"]);
      assert.equal(code, 0, command.join(" "));
      assert.match(stdout, mention);
    }
  });

  test("a word it does not know is a usage error", () => {
    refuses(["frobnicate"], 2, /unknown command 'frobnicate'/);
    refuses(["client", ...PORTAL, "--frobnicate"], 2, /unknown option '--frobnicate'/);
    refuses(["gateway", ...PORTAL, "--udp", "carrier-pigeon"], 2, /--udp.*native, portable/s);
    refuses(["client", ...PORTAL, "--log-level", "loud"], 2, /--log-level.*trace, debug/s);
  });

  test("options that are needed are asked for", () => {
    refuses(["client"], 2, /'--portal <url>' not specified/);
    refuses(["gateway"], 2, /'--portal <url>' not specified/);
    refuses(["portal"], 2, /'--config <file>' not specified/);
    refuses(["portal", "token", "create"], 2, /'--kind <kind>' not specified/);
    refuses(
      ["relay", ...PORTAL, "--token-file", tokenFile("relay.token")],
      1,
      /--public-ipv4, --public-ipv6/,
    );
  });

  test("a port says what it may be", () => {
    for (const port of ["0", "65536", "-1", "http", "1.5"]) {
      refuses(["client", ...PORTAL, `--port=${port}`], 2, /--port.*1 to 65535/);
    }
  });

  test("a relay's address must be of its family", () => {
    refuses(["relay", ...PORTAL, "--public-ipv4", "::1"], 2, /--public-ipv4.*IPv4 address/);
    refuses(["relay", ...PORTAL, "--public-ipv6", "192.0.2.1"], 2, /--public-ipv6.*IPv6 address/);
  });

  test("the name of the TUN device must be one that the system can give", () => {
    for (const name of ["sixteen-letters-", "a/b", "two words", ".."]) {
      refuses(["client", ...PORTAL, "--tun", name], 2, /--tun.*1 to 15 letters/);
    }
  });

  test("a portal's address says what it should look like", () => {
    const token = tokenFile("url.token");
    for (const url of ["portal.example", "ftp://portal.example", "//x"]) {
      refuses(
        ["client", "--portal", url, "--token-file", token],
        1,
        /--portal: ".*" is no portal address; expected wss:\/\//,
      );
    }
  });

  test("a folder for logs that cannot be one is named", () => {
    const file = tokenFile("in-the-way");
    refuses(
      ["client", ...PORTAL, "--token-file", file, "--log-dir", path.join(file, "logs")],
      1,
      /--log-dir: cannot write there: ENOTDIR/,
    );
  });
});

describe("a daemon's token", () => {
  test("missing: both ways to give one are named", () => {
    for (const role of ["client", "gateway", "relay"]) {
      const address = role === "relay" ? ["--public-ipv4", "192.0.2.1"] : [];
      refuses([role, ...PORTAL, ...address], 1, /no token: set CULVERT_TOKEN, or .* --token-file/);
    }
  });

  test("a file that others can read is refused, with the command that mends it", () => {
    const file = tokenFile("open.token", "secret-in-a-file", 0o644);
    const { stderr } = refuses(
      ["client", ...PORTAL, "--token-file", file],
      1,
      /has mode 644.*chmod 600 .*open\.token/,
    );
    assert.doesNotMatch(stderr, /secret-in-a-file/);
  });

  test("a file that is empty, absent or a folder is named", () => {
    const given = (file: string) => ["client", ...PORTAL, "--token-file", file];
    refuses(given(tokenFile("empty.token", "\n")), 1, /empty\.token is empty.*culvert portal token create/);
    refuses(given(path.join(directory, "absent.token")), 1, /absent\.token does not exist/);
    refuses(given(directory), 1, /is no regular file/);
  });
});

describe("a tunnel without privileges", () => {
  const links = () => spawnSync("ip", ["-o", "link"], { encoding: "utf8" }).stdout.split("\n").length;

  test("another user than root is told what is needed, and nothing is changed", {
    skip: unprivileged(),
  }, () => {
    const before = links();
    for (const role of ["client", "gateway"]) {
      const { code, stdout } = culvert([role, ...PORTAL], NOBODY, { CULVERT_TOKEN: "token" });
      assert.equal(code, 1);
      assert.match(
        stdout,
        new RegExp(`culvert ${role} must run as root, or with the capability CAP_NET_ADMIN`),
      );
    }
    assert.equal(links(), before);
  });

  test("root without the capability is told the same", { skip: unprivileged() }, () => {
    const dropped = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    const { code, stdout } = culvert(["client", ...PORTAL], dropped, { CULVERT_TOKEN: "token" });
    assert.equal(code, 1);
    assert.match(stdout, /CAP_NET_ADMIN/);
  });
});

describe("culvert portal check", () => {
  test("a configuration in order is summed up", () => {
    const file = configuration("good.yaml", portalConfiguration());
    const { code, stdout } = culvert(["portal", "check", "--config", file]);
    assert.equal(code, 0);
    assert.match(stdout, /good\.yaml: ok \(1 actors, 1 sites, 3 resources, 3 policies\)/);
  });

  test("each mistake is told with file, line, key and what would be right; the portal starts with none", () => {
    const good = portalConfiguration();
    const cases: readonly (readonly [from: string, to: string, told: RegExp])[] = [
      ["slug: lab", "slgu: lab", /account\.slgu: is not a key.*knows id, slug/],
      ["port: 8081", "port: 70000", /listen\.sockets\.port: 70000 is out of range/],
      [
        "kind: service",
        "kind: servce",
        /actors\[0\]\.kind: expected one of user, admin, service, found "servce"/,
      ],
      ["members: [laptop]", "members: [laptpo]", /groups\[0\]\.members\[0\].*did you mean "laptop"/],
      ["type: dns", "type: dsn", /resources\[0\]\.type: expected one of/],
      ['ports: ["80", "7000"]', 'ports: ["80000"]', /resources\[0\]\.filters\[0\]\.ports/],
      ["address: 10:20::/64", "address: 10:20::/640", /resources\[2\]\.address/],
      [
        "resource: Private web }",
        "resource: Private wbe }",
        /policies\[0\]\.resource.*did you mean "Private web"/,
      ],
    ];
    for (const [from, to, told] of cases) {
      assert.ok(good.includes(from), from);
      const text = good.replace(from, to);
      const line = text.slice(0, text.indexOf(to)).split("\n").length;
      const file = configuration("bad.yaml", text);
      const { stderr } = refuses(["portal", "check", "--config", file], 1, told);
      assert.match(stderr, new RegExp(`bad\\.yaml:${line}: `), `${to}: ${stderr}`);
    }
    refuses(["portal", "--config", path.join(directory, "bad.yaml")], 1, cases.at(-1)?.[2] ?? /never/);
  });

  test("a file that is absent or no YAML is named", () => {
    const absent = path.join(directory, "absent.yaml");
    refuses(["portal", "check", "--config", absent], 1, /absent\.yaml: cannot be read/);
    const broken = configuration("broken.yaml", "account: [\n");
    refuses(["portal", "check", "--config", broken], 1, /broken\.yaml:2: not valid YAML/);
  });
});

describe("culvert portal token", () => {
  test("options that do not fit the kind, and names that nobody has, are told", () => {
    const file = configuration("tokens.yaml", portalConfiguration());
    const create = (...args: string[]) => ["portal", "token", "create", "--config", file, ...args];
    refuses(create("--kind", "client"), 2, /a client's token needs --actor/);
    refuses(create("--kind", "gateway"), 2, /a gateway's token needs --site/);
    refuses(create("--kind", "relay", "--actor", "laptop"), 2, /--actor means nothing for a relay/);
    refuses(
      create("--kind", "client", "--actor", "laptpo"),
      1,
      /no actor is named "laptpo"; did you mean "laptop"/,
    );
    refuses(
      create("--kind", "client", "--actor", "laptop", "--expires", "soon"),
      2,
      /--expires.*"12h" or "90d"/,
    );
    refuses(["portal", "token", "revoke", "--config", file, "0000"], 1, /no token has the id 0000/);
  });

  test("a token file that others can read is refused", () => {
    const file = configuration("open.yaml", portalConfiguration());
    assert.equal(culvert(["portal", "token", "create", "--config", file, "--kind", "relay"]).code, 0);
    const tokens = fs.readdirSync(directory).find((name) => name.includes("token") && name.endsWith(".json"));
    assert.ok(tokens, "there is a token file");
    const stored = path.join(directory, tokens);
    assert.equal(fs.statSync(stored).mode & 0o777, 0o600);
    fs.chmodSync(stored, 0o644);
    refuses(["portal", "token", "list", "--config", file], 1, /can be read by others.*chmod 600/);
    fs.chmodSync(stored, 0o600);
  });
});

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs it to its end, with an environment that has nothing of Culvert but what is given. */
function culvert(
  args: readonly string[],
  wrapper: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Outcome {
  const [program = "", ...rest] = [...wrapper, process.execPath, MAIN, ...args];
  const { status, stdout, stderr } = spawnSync(program, rest, {
    encoding: "utf8",
    timeout: 20_000,
    env: { PATH: process.env["PATH"], ...env },
  });
  return { code: status, stdout, stderr };
}

/** It ends with this code and a message, and never with a stack trace. */
function refuses(args: readonly string[], code: number, message: RegExp): Outcome {
  const outcome = culvert(args);
  assert.equal(outcome.code, code, `${args.join(" ")}: ${outcome.stderr}`);
  assert.match(outcome.stderr, message);
  assert.doesNotMatch(outcome.stderr, /\n\s+at /);
  return outcome;
}

function tokenFile(name: string, text = "token", mode = 0o600): string {
  const file = path.join(directory, name);
  fs.writeFileSync(file, text, { mode });
  fs.chmodSync(file, mode);
  return file;
}

function configuration(name: string, text: string): string {
  const file = path.join(directory, name);
  fs.writeFileSync(file, text);
  return file;
}

/** Why a process cannot be run with fewer privileges here; false if it can. */
function unprivileged(): string | false {
  const { status } = spawnSync(NOBODY[0] ?? "", [...NOBODY.slice(1), process.execPath, MAIN, "--version"]);
  return status === 0 ? false : "needs root, setpriv, and sources that others can read";
}
