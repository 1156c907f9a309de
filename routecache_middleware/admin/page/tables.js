// Tables and forms: what is served most, the nodes, invalidation, explanation, the log of changes.

import { call, SignedOut } from "./live.js";
import { bytes, count, many, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
let leave = () => {};
let dismissed = null; // what was tried last, and may be confirmed

// Fills a table's body. A cell is text, or an element; text is never taken for markup.
export function fill(id, rows, none) {
  const body = $(id).tBodies[0];
  const width = $(id).tHead.rows[0].cells.length;
  body.replaceChildren();
  if (!rows.length) {
    const cell = body.insertRow().insertCell();
    cell.colSpan = width;
    cell.className = "none";
    cell.textContent = none;
  }
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach((content, place) => {
      const cell = row.insertCell();
      cell.className = $(id).tHead.rows[0].cells[place].className;
      cell.append(content);
    });
  }
}

function code(text) {
  const made = document.createElement("code");
  made.textContent = text;
  return made;
}

function button(words, label, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "link";
  made.textContent = words;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

// A name that clients choose: it may be long.
function named(text) {
  const made = document.createElement("span");
  made.textContent = text;
  return made;
}

export function showTop({ top: rows, keys, trouble }) {
  fill(
    "top",
    rows.map((row) => [
      code(row.id),
      named(row.model || "–"),
      code(row.tenant || "everybody"),
      count(row.served),
      bytes(row.size_bytes),
      seconds(row.age_s),
      row.ttl_s > 0 ? seconds(row.ttl_s) : "expired",
      button("Invalidate…", `Invalidate entry ${row.id}`, () => choose(row.id)),
    ]),
    trouble ? "They cannot be read now" : keys ? "They are not there any more" : "No hits were counted yet",
  );
}

function state({ state: word, role }) {
  const made = document.createElement("span");
  const dot = document.createElement("span");
  made.className = "state";
  dot.className = word === "up" || word === "down" ? `dot ${word}` : "dot";
  made.append(dot, role === "replica" ? `${word} (replica)` : word);
  return made;
}

function memory({ bytes: used, server }) {
  const limit = server?.memory_limit_bytes ? ` of ${bytes(server.memory_limit_bytes)}` : "";
  return used ? `${bytes(used)}${limit}` : "–";
}

export function showNodes(cluster, found) {
  fill(
    "nodes",
    cluster.nodes.map((node) => [
      code(node.name),
      state(node),
      count(node.keys),
      memory(node),
      count(node.errors),
      node.latency_ms ? seconds(node.latency_ms / 1000) : "–",
    ]),
    "Nobody says",
  );
  const open = found.breakers.filter((one) => one.state === "open").map((one) => one.name);
  $("breakers").textContent = open.length
    ? `Not let through: ${open.join(" and ")}. Requests go on without the cache; it is tried again by itself.`
    : `Reads and writes are let through. ${many(cluster.processes.length || 1, "process reads", "processes read")} the invalidation log, which is at position ${cluster.position}.`;
}

export function showAudit(rows) {
  fill(
    "audit",
    rows.map((row) => [
      new Date(row.at_s * 1000).toLocaleString(),
      `${row.who || "somebody"}${row.client ? `, ${row.client}` : ""}`,
      row.what,
      row.outcome,
    ]),
    "Nothing was changed through this app",
  );
}

// The entry is written into the box, where it is tried and confirmed as everything is.
function choose(id) {
  const form = $("invalidate");
  form.elements.scope.value = "entry";
  arrange();
  form.elements.value.value = id;
  form.scrollIntoView({ block: "center" });
  form.requestSubmit();
}

// Shows the fields that belong to the scope.
function arrange() {
  const { scope } = $("invalidate").elements;
  for (const label of $("invalidate").querySelectorAll("[data-for]")) {
    label.hidden = !label.dataset.for.split(" ").includes(scope.value);
  }
  $("value-label").textContent = { query: "Query hash", entry: "Entry" }[scope.value] ?? "Name";
  forget();
}

function forget() {
  dismissed = null;
  $("confirm").hidden = true;
  $("invalidated").textContent = "";
}

function target() {
  const { scope, value, layer, model, tenant } = $("invalidate").elements;
  if (scope.value === "all") return { all: true };
  if (scope.value === "layer") return { layer: layer.value };
  const found = { [scope.value]: value.value.trim() };
  if (scope.value === "query" && model.value.trim()) found.model = model.value.trim();
  if (["model", "query"].includes(scope.value) && tenant.value.trim())
    found.tenant = tenant.value.trim();
  return found;
}

async function attempt(act, place) {
  try {
    await act();
  } catch (error) {
    if (error instanceof SignedOut) leave(error.message);
    else place.textContent = error.message;
  }
}

async function tryOut(event) {
  event.preventDefault();
  forget();
  const asked = target();
  await attempt(async () => {
    const told = await call("invalidate", asked);
    $("invalidated").textContent =
      `This would drop ${told.covers}: ${count(told.matched)} of ${many(told.looked_at, "entry", "entries")} looked at, ${count(told.at_most_entries)} at most.`;
    dismissed = asked;
    $("confirm").hidden = false;
    $("confirm").focus();
  }, $("invalidated"));
}

async function confirmed() {
  const asked = dismissed;
  if (!asked) return;
  forget();
  await attempt(async () => {
    const told = await call("invalidate", { ...asked, dry_run: false });
    $("invalidated").textContent = `Done: ${told.covers}. Recorded at position ${told.position}.`;
    $("invalidated").focus(); // the button that had it is gone
    showAudit((await call("audit")).rows);
  }, $("invalidated"));
}

async function explain(event) {
  event.preventDefault();
  const { path, tenant, body } = event.target.elements;
  const asked = { path: path.value, body: body.value };
  if (tenant.value.trim()) asked.tenant = tenant.value.trim();
  await attempt(async () => {
    const { text, explanation } = await call("explain", asked);
    const more = [
      ["model", explanation.model],
      ["result hash", explanation.result_hash],
      ["counted", explanation.counted.join(", ")],
      ["ignored", explanation.ignored.join(", ")],
    ];
    $("explained").textContent = [
      text,
      ...more.filter(([, words]) => words).map(([name, words]) => `${name}: ${words}`),
    ].join("\n");
  }, $("explained"));
}

export function arm(signOut) {
  leave = signOut;
  arrange();
  $("invalidate").elements.scope.addEventListener("change", arrange);
  $("invalidate").addEventListener("input", forget);
  $("invalidate").addEventListener("submit", tryOut);
  $("confirm").addEventListener("click", confirmed);
  // A key that is held down since the dry run is no consent to what came of it.
  $("confirm").addEventListener("keydown", (event) => event.repeat && event.preventDefault());
  $("explain").addEventListener("submit", explain);
}
