// What was saved: by layer, model and tenant, less what the cache took; and what shadow mode found.

import { fill } from "./tables.js";
import { count, dollars, LAYERS, many, percent, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);
const LAYER_WORDS = Object.fromEntries(LAYERS);
const NONE = "Nothing was saved yet";

// `found` is of the process that answers; there are `workers` of them.
export function showSavings(found, workers) {
  $("n-saved").textContent =
    workers > 1 ? `by the one of ${workers} processes that answers` : "since the process began";
  $("net").textContent = net(found);
  by("by-layer", found.by_layer, (name) => LAYER_WORDS[name] ?? name);
  by("by-model", found.by_model, (name) => (name === "_OTHER" ? "others" : name || "unnamed"));
  by(
    "by-tenant",
    found.by_tenant,
    (name) => (name === "_OTHER" ? "others" : name || "everybody"),
    "code",
  );
  showShadow(found.shadow);
}

// The sentence above the tables: what is left of the time, and what the money leaves out.
function net({ requests, saved_s: left, cache_s: taken, usd, unpriced }) {
  if (!requests && !taken) return "This process has served nothing.";
  if (!requests) return `Nothing yet; the cache itself took ${seconds(taken)} of all requests.`;
  const gross = `${many(requests, "request", "requests")} spared ${seconds(left + taken)} of models and routers.`;
  const cost = `The cache itself took ${seconds(taken)} of all requests, ${left < 0 ? `${seconds(-left)} more than that` : `so ${seconds(left)} are left`}.`;
  const unknown = unpriced.length ? ` No price is known of ${list(unpriced)}.` : "";
  const money = usd || !unknown ? ` The tokens would have cost ${dollars(usd)}.` : "";
  return `${gross} ${cost}${money}${unknown}`;
}

function list(names) {
  const more = names.length > 3 ? ` and ${many(names.length - 3, "other", "others")}` : "";
  return names.slice(0, 3).join(", ") + more;
}

function by(id, rows, words, element = "span") {
  const cells = Object.entries(rows)
    .sort(([, one], [, other]) => other.upstream_s - one.upstream_s)
    .map(([name, row]) => [
      Object.assign(document.createElement(element), { textContent: words(name) }),
      count(row.requests),
      count(row.input_tokens + row.output_tokens),
      row.usd == null ? "–" : dollars(row.usd),
      seconds(row.upstream_s),
    ]);
  fill(id, cells, NONE);
}

function showShadow(found) {
  $("shadow-panel").hidden = !found.served;
  const share = (value) => `${count(value)} (${percent(value / found.served)})`;
  fill(
    "shadow",
    [
      ["Would have been served", count(found.served)],
      ["The live answer had the same bytes", share(found.equal_bytes)],
      ["It said the same", share(found.equal_text)],
      ["It said something else", share(found.different)],
      ["Tokens that would have been saved", count(found.input_tokens + found.output_tokens)],
      ["Time that would have been saved", seconds(found.upstream_s)],
    ],
    NONE,
  );
}
