import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfiguration } from "../../../host/portal/server/configuration.ts";
import { configuration, YAML } from "./portal-bench.ts";

function problems(yaml: string): readonly string[] {
  const parsed = parseConfiguration(yaml, "portal.yaml");
  return parsed.ok ? [] : parsed.problems;
}

/** A valid file with one resource, whose members are given. */
function withResource(members: string): string {
  return `account: { slug: lab }\nsites: [{ name: Rack 4 }]\nresources:\n  - { name: R, site: Rack 4, ${members} }\n`;
}

test("gives the same ids whenever it reads the same file (portal 25.41)", () => {
  assert.deepEqual(configuration(YAML), configuration(YAML));
  const { resources, policies, actors } = configuration(YAML);
  assert.deepEqual([resources.size, policies.length, actors.size], [4, 3, 3]);
  for (const id of [...resources.keys(), ...actors.keys()]) {
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  }
});

test("reads DNS settings, filters and listening sockets", () => {
  const parsed = configuration(`
account:
  slug: lab
  dns: { mode: secure, doh: quad9, search_domain: corp.example }
listen:
  sockets: { host: 0.0.0.0, port: 8443, cert: a.crt, key: a.key }
storage: { tokens: /var/lib/culvert/tokens.json }
sites: [{ name: S }]
resources:
  - name: Wiki
    type: dns
    address: "*.corp.example"
    ip_stack: ipv6_only
    site: S
    filters:
      - { protocol: tcp, ports: [80, "8000-8100"] }
      - { protocol: udp }
      - { protocol: icmp }
`);
  assert.deepEqual(parsed.account.dns, {
    searchDomain: "corp.example",
    servers: [],
    dohUrls: ["https://dns.quad9.net/dns-query"],
  });
  assert.deepEqual(parsed.listen, {
    host: "0.0.0.0",
    port: 8443,
    tls: { cert: "a.crt", key: "a.key" },
    isPlainAllowed: false,
  });
  assert.equal(parsed.tokensPath, "/var/lib/culvert/tokens.json");
  const [wiki] = parsed.resources.values();
  assert.ok(wiki?.kind === "dns");
  assert.equal(wiki.ipStack, "ipv6_only");
  assert.deepEqual(wiki.filters, [
    { kind: "tcp", firstPort: 80, lastPort: 80 },
    { kind: "tcp", firstPort: 8000, lastPort: 8100 },
    { kind: "udp", firstPort: 0, lastPort: 65535 },
    { kind: "icmp", firstPort: 0, lastPort: 0 },
  ]);
});

test("says file, line, key, what is wrong and what would be right", () => {
  const yaml = `account:
  slug: lab
sites:
  - { name: Rack 4 }
groups:
  - name: Engineering
    members: [Mira]
resources:
  - name: Lab
    type: cidr
    address: 10.0.0.1/8
    site: Rack4
policies:
  - { group: Enginering, resource: Lab }
  - { group: Everyone, resource: Labs }
`;
  assert.deepEqual(problems(yaml), [
    'portal.yaml:7: groups[0].members[0]: no actor is named "Mira"',
    'portal.yaml:11: resources[0].address: "10.0.0.1/8" has host bits set; did you mean 10.0.0.0/8?',
    'portal.yaml:12: resources[0].site: no site is named "Rack4"; did you mean "Rack 4"?',
    'portal.yaml:14: policies[0].group: no group is named "Enginering"; did you mean "Engineering"?',
    'portal.yaml:15: policies[1].resource: no resource is named "Labs"',
  ]);
});

test("refuses unknown keys, missing keys and wrong types by name", () => {
  const yaml = `account: { slug: lab, nmae: x }
listen:
  sockets: { port: "8081" }
  admin: { port: 1 }
sites: { name: S }
actors:
  - { name: Mira, kind: root }
  - { kind: user }
policies:
  - { group: G, resource: R, conditions: [] }
`;
  const found = problems(yaml);
  assert.deepEqual(
    found.map((line) => line.slice(0, line.indexOf(": ", line.indexOf(": ") + 2))),
    [
      "portal.yaml:1: account.nmae",
      "portal.yaml:3: listen.sockets.port",
      "portal.yaml:4: listen.admin",
      "portal.yaml:5: sites",
      "portal.yaml:7: actors[0].kind",
      "portal.yaml:8: actors[1].name",
      "portal.yaml:10: policies[0].conditions",
    ],
  );
  assert.match(found[0] ?? "", /is not a key of this section; it knows id, slug, name, dns$/);
  assert.match(found[1] ?? "", /expected a number, found "8081"$/);
  assert.match(found[3] ?? "", /expected a list, found keys and values$/);
  assert.match(found[4] ?? "", /expected one of user, admin, service, found "root"$/);
  assert.match(found[5] ?? "", /is missing; expected text$/);
});

test("refuses names that are taken, and a group named Everyone", () => {
  const yaml = `account: { slug: lab }
actors:
  - { name: Mira, kind: user, email: m@x }
  - { name: Mira, kind: admin }
  - { name: Ada, kind: user, email: M@x }
groups:
  - { name: Everyone }
sites: [{ name: " S" }, { name: "" }]
`;
  assert.deepEqual(problems(yaml), [
    'portal.yaml:4: actors[1].name: "Mira" is taken by actors[0]; expected another',
    'portal.yaml:5: actors[2].email: "M@x" is taken by actors[0]; expected another',
    'portal.yaml:7: groups[0].name: "Everyone" exists by itself; leave it out, it contains all users and admins',
    'portal.yaml:8: sites[0].name: " S" begins or ends with a space; did you mean "S"?',
    "portal.yaml:8: sites[1].name: is empty; expected a name",
  ]);
});

test("one policy per group and resource, one internet resource", () => {
  const yaml = `${YAML}  - { group: Everyone, resource: Wiki }\n`;
  assert.match(problems(yaml)[0] ?? "", /policies\[3\]: this group and resource is taken by policies\[0\]/);
  const twice = YAML.replace("policies:", "  - { name: Out 2, type: internet, site: Annex }\npolicies:");
  assert.match(problems(twice)[0] ?? "", /resources\[4\]\.type: type internet is taken by resources\[3\]/);
});

test("checks networks, addresses and their place (portal 20.1)", () => {
  const cases: readonly (readonly [string, RegExp | undefined])[] = [
    ["type: cidr, address: 10.31.0.0/16", undefined],
    ["type: cidr, address: 'fd12:3456::/32'", undefined],
    ["type: cidr, address: 0.0.0.0/0", /is everything; use a resource of type internet/],
    ["type: cidr, address: '::/0'", /is everything/],
    ["type: cidr, address: 10.0.0.0", /has no prefix length; did you mean 10\.0\.0\.0\/32, or type ip\?/],
    ["type: cidr, address: 10.0.0.0/33", /bad prefix length; expected 1 to 32/],
    ["type: cidr, address: office", /is not a network; expected one such as/],
    ["type: cidr, address: 100.64.0.0/16", /overlaps 100\.64\.0\.0\/10/],
    ["type: cidr, address: 100.0.0.0/8", /overlaps 100\.64\.0\.0\/10/],
    ["type: cidr, address: 'fd00:2021:1111:8000::/64'", /overlaps fd00:2021:1111::\/48/],
    ["type: cidr, address: 127.0.0.0/16", /loopback/],
    ["type: ip, address: 10.0.0.5", undefined],
    ["type: ip, address: 10.0.0.5/32", /is not an IP address/],
    ["type: ip, address: '::1'", /loopback/],
    ["type: ip", /address: is missing; type ip needs one/],
    ["type: internet, address: 10.0.0.0/8", /means nothing for type internet/],
    ["type: cidr, address: 10.0.0.0/8, ip_stack: dual", /means nothing for type cidr/],
    ["type: static_device_pool", /expected one of dns, cidr, ip, internet/],
  ];
  for (const [members, expected] of cases) {
    const found = problems(withResource(members));
    if (expected === undefined) assert.deepEqual(found, [], members);
    else assert.match(found.join("\n"), expected, members);
  }
});

test("checks names and patterns (portal 20.1)", () => {
  const good = [
    "wiki.corp.example",
    "*.corp.example",
    "**.httpbin",
    "web-?.corp.example",
    "a.**.b.example",
    "intranet",
  ];
  const more = ["büro.example", "*.example.com", "a*b.corp.example"];
  for (const address of [...good, ...more]) {
    assert.deepEqual(problems(withResource(`type: dns, address: "${address}"`)), [], address);
  }
  const bad: readonly (readonly [string, RegExp])[] = [
    ["10.0.0.5", /is an IP address; use type ip/],
    ["wiki.corp.example:443", /has a port; ports belong into filters/],
    ["wiki.*", /wildcard in its last label/],
    ["a.localhost", /means another machine to everybody/],
    ["a**.example", /mixes "\*\*" with other characters/],
    ["a..example", /empty label/],
    ["wiki example.org", /contains " "/],
    ["*", /wildcard in its last label/],
    ["*.com", /covers all of "\.com"/],
    ["**.*.de", /covers all of "\.de"/],
    [`${"a".repeat(64)}.example`, /label of more than 63/],
    ["a.".repeat(127), /has 254 characters/],
  ];
  for (const [address, expected] of bad) {
    assert.match(problems(withResource(`type: dns, address: "${address}"`)).join("\n"), expected, address);
  }
});

test("checks ports and their overlap (portal 20.1)", () => {
  const cases: readonly (readonly [string, RegExp | undefined])[] = [
    ["[{ protocol: tcp, ports: [443, 80] }, { protocol: udp, ports: [443] }]", undefined],
    ["[{ protocol: tcp, ports: [0] }]", /ports\[0\]: "0" is no port; expected 1 to 65535/],
    ["[{ protocol: tcp, ports: ['65536'] }]", /is no port/],
    ["[{ protocol: tcp, ports: ['http'] }]", /is no port/],
    ["[{ protocol: tcp, ports: ['90-80'] }]", /ends before it starts; did you mean "80-90"\?/],
    ["[{ protocol: tcp, ports: ['80-90', 85] }]", /ports\[1\]: "85" is covered twice for tcp/],
    ["[{ protocol: tcp, ports: [80] }, { protocol: tcp }]", /every port is covered twice for tcp/],
    ["[{ protocol: icmp, ports: [1] }]", /means nothing for icmp/],
    ["[{ protocol: icmp }, { protocol: icmp }]", /covered twice for icmp/],
    ["[{ protocol: sctp }]", /expected one of tcp, udp, icmp/],
  ];
  for (const [filters, expected] of cases) {
    const found = problems(withResource(`type: ip, address: 10.0.0.5, filters: ${filters}`));
    if (expected === undefined) assert.deepEqual(found, [], filters);
    else assert.match(found.join("\n"), expected, filters);
  }
});

test("refuses plain HTTP that others can reach, unless it is asked for", () => {
  const at = (sockets: string) => problems(`account: { slug: lab }\nlisten: { sockets: { ${sockets} } }`);
  assert.deepEqual(at("host: 127.0.0.1"), []);
  assert.deepEqual(at('host: "::1"'), []);
  assert.deepEqual(at("host: localhost"), []);
  assert.match(at("host: 0.0.0.0").join(), /without encryption; expected cert and key, or plain: true/);
  assert.deepEqual(at("host: 0.0.0.0, plain: true"), []);
  assert.match(at("host: 0.0.0.0, cert: a.crt").join(), /key: is missing; cert needs it/);
});

test("checks DNS servers against their mode", () => {
  const at = (dns: string) => problems(`account: { slug: lab, dns: { ${dns} } }`);
  assert.deepEqual(at("servers: [10.31.0.53]"), []);
  assert.match(at("mode: system, servers: [10.31.0.53]").join(), /expected mode custom/);
  assert.match(at("mode: custom").join(), /needs at least one address/);
  assert.match(at("mode: secure").join(), /needs google, quad9, cloudflare or opendns/);
  assert.match(at("servers: [10.31.0.53, 10.31.0.53]").join(), /listed twice/);
  assert.match(at("servers: ['10.31.0.53:53']").join(), /is not an IP address/);
  assert.match(at("servers: [100.100.111.1]").join(), /overlaps 100\.64\.0\.0\/10/);
  assert.match(at("search_domain: '*.corp.example'").join(), /has a wildcard/);
});

test("reports broken YAML with its line, and survives anything", () => {
  assert.match(problems("account: { slug: lab\n").join(), /^portal\.yaml:2: not valid YAML: /);
  assert.match(
    problems("account: { slug: lab }\naccount: { slug: x }\n").join(),
    /^portal\.yaml:2: not valid YAML: /,
  );
  for (const text of ["", "7", "[]", "null", "a: &a [*a]", "\u0000", "7: y"]) {
    assert.notEqual(problems(text).length, 0, JSON.stringify(text));
  }
  const bomb = [
    "a: &a [x,x,x,x,x,x,x,x,x]",
    ..."bcdefgh".split("").map((key, i) => {
      const before = "abcdefgh"[i];
      return `${key}: &${key} [${Array(9).fill(`*${before}`).join(",")}]`;
    }),
  ].join("\n");
  assert.notEqual(problems(bomb).length, 0);
});
