// The dashboard: signs in, follows the stream, and hands what comes to cards, charts and tables.

import { drawReasons, drawTimes, explainReasons } from "./charts.js";
import { reach, resize, restyle } from "./drawing.js";
import { call, follow, SignedOut, token } from "./live.js";
import { showSavings } from "./savings.js";
import { drawStored } from "./stored.js";
import { arm, showAudit, showNodes, showTop } from "./tables.js";
import { bytes, count, dollars, many, percent, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
const SLOW_MS = 10_000;
const OLD_MS = 8_000;
const AGAIN_MS = 2_000;
const SPAN_S = { "5m": 300, "1h": 3_600, "24h": 86_400 };
const SPANS = { "5m": "the last 5 minutes", "1h": "the last hour", "24h": "the last 24 hours" };
const MODES = {
  off: "The cache is off: nothing is looked up and nothing is stored.",
  read_only: "The cache is read only: what is stored is served, and nothing is added.",
  write_only: "The cache is write only: nothing is served from it yet.",
  shadow: "Shadow mode: nothing is served, and what would have been is counted below.",
};
const STALE = "The coordinator does not tell its numbers: they are as they were, here and below.";
const DOWN =
  "The coordinator is down for at least one process, whose requests go on without the cache. It is tried again by itself; until then what others count may be missing here.";

let view = "5m";
let points = new Map(); // when it began -> point
let latest = null;
let stored = null;
let saved = null;
let meanings = {}; // of reasons, by kind
let following = null;
let moved = { at_s: 0, ms: 0 };
let slow = 0;
let again = 0;

// Whether a hit rate of 0 says something.
const isServing = (mode) => !["off", "shadow", "write_only"].includes(mode);

// Changes a text only when it says something else: what is read out is not read out each second.
function put(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

function showCards({ cards, coordinator, mode, held }) {
  const { hit_rate: rate, saved } = cards;
  for (const name of Object.keys(SPAN_S)) {
    put(`rate-${name}`, percent(isServing(mode) ? rate[name] : rate[name] || null));
  }
  put("served", count(cards.served));
  put("tokens", count(saved.input_tokens + saved.output_tokens));
  put("tokens-in", count(saved.input_tokens));
  put("tokens-out", count(saved.output_tokens));
  put("usd", dollars(saved.usd));
  put("time", seconds(saved.time_s));
  put("entries", count(cards.entries));
  const kept = (layer) =>
    held
      .filter((one) => one.cache === layer && one.place === coordinator)
      .reduce((sum, one) => sum + one.entries, 0);
  put("entries-note", `${count(kept("route"))} of them decisions`);
  const used = cards.bytes ?? (cards.entries ? null : 0);
  put("bytes", used == null ? "–" : bytes(used));
  const free = used == null ? "see the nodes" : cards.entries ? "no limit of the cache’s" : "";
  put("limit", cards.limit_bytes == null ? free : `of ${bytes(cards.limit_bytes)}`);
  $("fill").hidden = cards.limit_bytes == null;
  if (cards.limit_bytes) $("fill").value = cards.bytes / cards.limit_bytes;
  put("backend", cards.is_up ? "up" : "down");
  put("backend-note", `${coordinator} · ${many(cards.workers, "process", "processes")}`);
  $("backend").className = cards.is_up ? "value" : "value down";
  $("dot").className = `dot ${cards.is_up ? "up" : "down"}`;
  const word = isOld() ? "Numbers are not moving" : cards.is_up ? "Live" : "Backend down";
  put("state", `${word} · mode ${mode}`);
  tell(isOld() ? STALE : cards.is_up ? (MODES[mode] ?? "") : DOWN, isOld() || !cards.is_up);
}

// Says above all else what makes the figures other than they seem.
function tell(words, isBad = false) {
  put("banner", words);
  $("banner").hidden = !words;
  $("banner").className = isBad ? "bad" : "";
}

// Whether frames come, but with the same numbers: the coordinator does not answer.
function isOld() {
  if (latest.at_s !== moved.at_s) moved = { at_s: latest.at_s, ms: Date.now() };
  return Date.now() - moved.ms > OLD_MS;
}

function show() {
  if (!latest) return;
  const sorted = [...points.values()].sort((one, other) => one.t - other.t);
  reach(latest.at_s - SPAN_S[latest.window], latest.at_s, latest.step_s);
  const { step_s } = latest;
  drawTimes(sorted, latest.total, {
    step_s,
    outcomes: $("outcomes-of").value,
    latency: $("layer").value,
    isServing: isServing(latest.mode),
  });
  drawReasons(latest.total);
  explainReasons(latest.total, meanings);
  for (const one of document.querySelectorAll("[data-span]")) one.textContent = SPANS[latest.window];
}

function take(frame) {
  const isFirst = !latest;
  latest = frame;
  for (const point of frame.points) points.set(point.t, point);
  for (const at of points.keys()) {
    const isOver = at < frame.at_s - SPAN_S[view] - frame.step_s;
    if (isOver || at > frame.at_s + SPAN_S[view]) points.delete(at); // its clock was put right
  }
  showCards(frame);
  show();
  if (isFirst) showSaved();
  document.body.dataset.frames = String(Number(document.body.dataset.frames ?? 0) + 1);
}

function showSaved() {
  if (saved && latest) showSavings(saved, latest.cards.workers);
}

function showStored() {
  if (!stored) return;
  put(
    "sampled",
    `${count(stored.looked_at)} of ${count(stored.total)} entries looked at${stored.trouble ? `; ${stored.trouble}` : ""}`,
  );
  put(
    "counted",
    stored.keys ? `${count(stored.served)} hits of ${count(stored.keys)} answers` : "",
  );
  drawStored(stored);
  showTop(stored);
}

// What is not told each second. A failure of one part leaves the others alone.
async function look() {
  const parts = [
    async () => {
      stored = await call("distribution");
      showStored();
    },
    async () => showNodes(await call("cluster"), await call("breakers")),
    async () => showAudit((await call("audit")).rows),
    async () => {
      saved = await call("savings");
      showSaved();
    },
  ];
  const ended = await Promise.allSettled(parts.map((part) => part()));
  const out = ended.find(({ reason }) => reason instanceof SignedOut);
  if (out) signOut(out.reason.message);
  if (out) return;
  if (ended[1].reason) put("breakers", ended[1].reason.message);
  if (ended[3].reason) put("net", ended[3].reason.message);
}

function begin() {
  following?.abort();
  const stop = (following = new AbortController());
  points = new Map();
  follow(view, { take, lost, signal: stop.signal }).catch((error) => {
    if (!stop.signal.aborted) signOut(error.message);
  });
}

function lost(error) {
  $("dot").className = "dot down";
  put("state", "No connection");
  const then = latest ? ` All figures are of ${new Date(latest.at_s * 1000).toLocaleTimeString()}.` : "";
  tell(`The server does not answer (${error.message}); it is asked again each second.${then}`, true);
}

function signOut(reason = "") {
  following?.abort();
  clearInterval(slow);
  clearTimeout(again);
  token.clear();
  latest = null;
  $("main").hidden = $("leave").hidden = $("windows").hidden = true;
  $("door").hidden = false;
  put("door-reason", reason);
  put("state", "Signed out");
  $("dot").className = "dot";
  $("token").focus();
}

async function enter() {
  clearTimeout(again);
  try {
    const { open } = await (await fetch("assets/door.json", { cache: "no-store" })).json();
    if (!open && !token.get()) {
      signOut();
      return;
    }
    meanings = await call("meanings");
  } catch (error) {
    if (error instanceof SignedOut) signOut(error.message);
    else {
      lost(error); // the token may be right all the same
      again = setTimeout(enter, AGAIN_MS);
    }
    return;
  }
  $("door").hidden = true;
  $("main").hidden = $("windows").hidden = false;
  $("leave").hidden = !token.get();
  begin();
  look();
  clearInterval(slow);
  slow = setInterval(look, SLOW_MS);
}

function paint(theme) {
  document.documentElement.dataset.theme = theme;
  put("theme", theme === "dark" ? "Light" : "Dark");
  restyle();
  show();
  showStored();
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set($("token").value.trim());
  $("token").value = "";
  enter();
});
$("leave").addEventListener("click", () => signOut());
$("layer").addEventListener("change", show);
$("outcomes-of").addEventListener("change", show);
$("windows").addEventListener("click", ({ target }) => {
  if (!target.dataset.window) return;
  view = target.dataset.window;
  for (const one of $("windows").children) one.setAttribute("aria-pressed", String(one === target));
  begin();
});
$("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("routecache.theme", theme);
  paint(theme);
});
addEventListener("resize", resize);
arm(signOut);
paint(
  localStorage.getItem("routecache.theme") ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
);
enter();
