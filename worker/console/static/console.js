// The console works without this script. It adds local times as tooltips, live parts of pages, and the number of selected rows.
"use strict";

function localTimes(root) {
  const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    if (!time.title.includes("\n")) time.title += `\n${zoned.format(new Date(time.dateTime))}`;
  }
}

// Replaces only the parts of a region that have changed, so that a screen reader announces an alert once.
function refresh(region, html) {
  region.pending = html;
  if (region.querySelector("input[name=ids]:checked")) return; // shown when no row is selected any more
  region.pending = null;
  const template = document.createElement("template");
  template.innerHTML = html; // rendered and escaped by the server, like the page itself
  const parts = [...template.content.children];
  const sources = parts.map((part) => part.outerHTML);
  const sameCount = region.sources && region.sources.length === sources.length;
  const focusName = focusedName(region);
  const positions = [...region.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
  for (const part of parts) localTimes(part);
  if (sameCount) parts.forEach((part, i) => { if (sources[i] !== region.sources[i]) replacePart(region.children[i], part); });
  else region.replaceChildren(...parts);
  region.sources = sources;
  for (const form of region.querySelectorAll("form")) selectRows(form);
  region.querySelectorAll(".scroll").forEach((element, i) => { element.scrollLeft = positions[i] || 0; });
  if (focusName && document.activeElement === document.body) findByName(region, focusName)?.focus({ preventScroll: true });
}

function replacePart(old, part) {
  if (old.matches("[role=alert]")) old.replaceChildren(...part.childNodes); // screen readers announce changes of a kept element only
  else old.replaceWith(part);
}

const nameOf = (element) => element.getAttribute("href") || element.getAttribute("aria-label");

function focusedName(region) {
  return region.contains(document.activeElement) ? nameOf(document.activeElement) : null;
}

function findByName(region, name) {
  return [...region.querySelectorAll("a, [tabindex]")].find((element) => nameOf(element) === name);
}

function keepLive(region) {
  const events = new EventSource(region.dataset.live);
  const banner = document.createElement("p");
  banner.className = "banner info";
  banner.setAttribute("role", "status");
  const show = (text) => { banner.textContent = text; banner.hidden = !text; };
  show("");
  region.before(banner);
  events.onopen = () => show("");
  events.onmessage = (event) => refresh(region, event.data);
  events.onerror = () => show(events.readyState === EventSource.CLOSED
    ? "This page no longer updates. Reload it."
    : "The receiver cannot be reached. This page may be outdated; reconnecting…");
  region.addEventListener("change", () => { if (region.pending) refresh(region, region.pending); });
  events.addEventListener("end", () => { events.close(); location.reload(); });
}

function selectRows(form) {
  if (form.dataset.selects) return;
  const boxes = [...form.querySelectorAll("input[name=ids]")];
  const all = form.querySelector("[data-all=ids]");
  const counter = form.querySelector("[data-count=ids]");
  if (!boxes.length || !all || !counter) return;
  const buttons = counter.parentElement.querySelectorAll("button");
  const update = () => {
    const selected = boxes.filter((box) => box.checked).length;
    counter.textContent = `${selected} selected`;
    all.checked = selected === boxes.length;
    all.indeterminate = selected > 0 && selected < boxes.length;
    for (const button of buttons) button.disabled = selected === 0;
    counter.parentElement.classList.toggle("sticky", selected > 0);
  };
  form.dataset.selects = "yes";
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; update(); });
  form.addEventListener("change", update);
  update();
}

function omitEmptyFields(form) {
  const fields = [...form.elements].filter((field) => field.name && !field.value && !field.hasAttribute("data-keep"));
  for (const field of fields) field.disabled = true;
  setTimeout(() => { for (const field of fields) field.disabled = false; });
}

for (const region of document.querySelectorAll("[data-live]")) region.sources = [...region.children].map((child) => child.outerHTML);
localTimes(document);
for (const region of document.querySelectorAll("[data-live]")) keepLive(region);
for (const form of document.querySelectorAll("form")) selectRows(form);
for (const form of document.querySelectorAll("form[role=search]")) form.addEventListener("submit", () => omitEmptyFields(form));
