// What is stored, drawn: over tenants and models, by freshness, size and age, and by hits.

import { axes, draw, histogram, line, look, tooltip } from "./drawing.js";
import { bytes, count, percent, seconds } from "./words.js";

const UNREAD = "It cannot be read now";

export function drawStored(found) {
  const tenants = new Map();
  for (const share of found.shares) {
    const name = share.tenant || "everybody";
    if (!tenants.has(name)) tenants.set(name, []);
    tenants
      .get(name)
      .push({ name: share.model || "unnamed", value: share.bytes, entries: share.entries });
  }
  const data = [...tenants].map(([name, children], place) => {
    const hue = look[`c${(place % 6) + 1}`];
    return { name, children, itemStyle: { color: hue, borderColor: hue } }; // the border holds the name
  });
  draw(
    "c-tree",
    {
      tooltip: tooltip({
        formatter: ({ treePathInfo, value, data: one }) =>
          `${treePathInfo
            .slice(1)
            .map(({ name }) => name)
            .join(" > ")}: ${bytes(value)}${one.entries ? `, ${count(one.entries)} entries` : ""}`,
      }),
      series: [
        {
          type: "treemap",
          data,
          roam: false,
          nodeClick: false,
          breadcrumb: { show: false },
          left: 0,
          right: 0,
          top: 8,
          bottom: 4,
          visibleMin: 1,
          upperLabel: { show: true, height: 20, color: look.panel, fontSize: 12 },
          label: { color: look.panel, fontSize: 12 },
          labelLayout: ({ rect }) => (rect.width < 44 || rect.height < 16 ? { x: -1000 } : {}), // or cut to a letter
          itemStyle: { borderColor: look.panel, gapWidth: 2 },
          levels: [
            { itemStyle: { gapWidth: 3, borderWidth: 0 }, upperLabel: { show: false } },
            { itemStyle: { gapWidth: 1, borderWidth: 2 }, upperLabel: { show: true } },
          ],
        },
      ],
    },
    {
      empty: data.length ? "" : found.trouble ? UNREAD : "Nothing is stored",
      summary: found.shares
        .map((share) => `${share.tenant || "everybody"}, ${share.model}: ${bytes(share.bytes)}`)
        .join("; "),
    },
  );
  const none = found.trouble ? UNREAD : "No answers are stored";
  histogram("c-ttl", found.ttl_s, { unit: seconds, none });
  histogram("c-size", found.size_bytes, { unit: bytes, none });
  histogram("c-age", found.age_s, { unit: seconds, none });
  const last = found.concentration.at(-1);
  draw(
    "c-zipf",
    {
      ...axes({ unit: percent, max: 1 }),
      legend: { show: false },
      grid: { left: 4, right: 16, top: 16, bottom: 18, containLabel: true },
      xAxis: {
        type: "log",
        min: 1,
        max: last && last[0] > 1 ? last[0] : 10,
        name: "answers",
        nameLocation: "middle",
        nameGap: 22,
        nameTextStyle: { color: look.soft },
        axisLabel: { color: look.soft, fontSize: 11, formatter: count },
        splitLine: { show: false },
        axisLine: { lineStyle: { color: look.line } },
      },
      tooltip: tooltip({ trigger: "axis", valueFormatter: percent }),
      series: [line("share of hits", found.concentration, look.c1, { symbolSize: 5 })],
    },
    {
      empty: last ? "" : "No hits were counted yet",
      summary: found.concentration
        .map(([place, share]) => `the first ${place}: ${percent(share)}`)
        .join(", "),
    },
  );
}
