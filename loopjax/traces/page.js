"use strict";
(async () => {
  const PAGE = 20, BLOCK = 250;
  const element = (id) => document.getElementById(id);

  async function unpack(id) {
    const packed = atob(element(id).textContent);
    const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  if (typeof DecompressionStream === "undefined") {
    element("count").textContent = "This browser is too old to unpack the responses.";
    return;
  }
  const index = await unpack("index");
  const blocks = new Map(); // number -> its responses; the last few
  const classOf = (i) => index.names.class[index.class[i]], endingOf = (i) => index.names.ending[index.ending[i]];
  const loops = new Set(["recurrence", "locked cycle", "run"]);
  const kinds = {
    "looping": ["looping", (i) => loops.has(classOf(i))],
    "recurrence": ["with a recurrence", (i) => index.recurrence_fired[i] !== null],
    "cycle": ["with a locked cycle", (i) => index.cycle_onset[i] !== null],
    "other": ["not looping", (i) => classOf(i) !== "" && !loops.has(classOf(i))],
    "cut": ["cut by the length limit", (i) => endingOf(i) === "length"],
    "stopped": ["stopped for repetition", (i) => endingOf(i) === "repetition"],
    "lost": ["lost", (i) => endingOf(i) === "lost"],
    "unknown": ["of unknown ending", (i) => endingOf(i) === "unknown"],
    "unclosed": ["with an unclosed thought", (i) => index.is_unclosed[i] === 1],
    "right": ["labelled right", (i) => index.label[i] !== null && index.label[i] > 0],
    "wrong": ["labelled wrong", (i) => index.label[i] === 0],
    "all": ["all", () => true],
  };
  for (const name of ["none", ...loops, "variant", "enumeration"]) kinds[`class ${name}`] = [`class: ${name}`, (i) => classOf(i) === name];

  const state = { group: -1, kind: "looping", order: "length", problem: "", page: 0, chosen: [] };
  const loopLength = (i) => (index.cycle_period[i] === null ? 0 : index.cycle_period[i] * index.cycle_repetitions[i]);
  const orders = {
    length: (i) => -(loopLength(i) || (loops.has(classOf(i)) ? 1 : 0)),
    repetitions: (i) => -(index.cycle_repetitions[i] || 0),
    units: (i) => -(index.num_units[i] || 0),
    file: (i) => i,
  };

  function choose() {
    const { group, kind, problem } = state, is = kinds[kind][1], chosen = [];
    const names = index.names.problem.map((name) => name.toLowerCase().includes(problem));
    for (let i = 0; i < index.group.length; i++) {
      if ((group < 0 || index.group[i] === group) && is(i) && names[index.problem[i]]) chosen.push(i);
    }
    const key = orders[state.order];
    state.chosen = chosen.sort((a, b) => key(a) - key(b) || a - b);
    state.page = 0;
    element("group").value = group;
    element("kind").value = kind;
    return show();
  }

  function make(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function describe(i) {
    const parts = [classOf(i) || "no text"], [period, times] = [index.cycle_period[i], index.cycle_repetitions[i]];
    if (period !== null) parts.push(`onset ${index.cycle_onset[i]}, period ${period}, ${times} repetitions`);
    else if (index.recurrence_fired[i] !== null) parts.push(`onset ${index.recurrence_onset[i]}`);
    if (index.num_units[i] !== null) parts.push(`${index.num_units[i]} units`);
    parts.push(`ending: ${endingOf(i)}`);
    if (index.label[i] !== null) parts.push(`label ${index.label[i]}`);
    return parts.join(" · ");
  }

  // The segments of an excerpt; turns of the loop alternate in colour. Places count code points, as Python does.
  function text(excerpt) {
    const box = make("div", "text");
    box.tabIndex = 0;
    const [segments, loop, length] = excerpt.length ? excerpt : [[], null, 0];
    let place = 0;
    const leaveOut = (to) => to > place && box.append(make("span", "left-out", `… ${to - place} characters …`));
    for (const [start, string] of segments) {
      const letters = Array.from(string), end = start + letters.length;
      leaveOut(start);
      const inside = loop ? [loop[0], loop[1], ...loop[2]].filter((cut) => cut > start && cut < end) : [];
      const cuts = [...new Set([start, ...inside, end])].sort((a, b) => a - b);
      for (let j = 0; j + 1 < cuts.length; j++) {
        const piece = letters.slice(cuts[j] - start, cuts[j + 1] - start).join("");
        if (loop && cuts[j] >= loop[0] && cuts[j] < loop[1]) {
          const turn = loop[2].filter((one) => one <= cuts[j]).length;
          box.append(make("mark", turn % 2 ? "" : "even", piece));
        } else box.append(piece);
      }
      place = end;
    }
    leaveOut(length);
    if (!length) box.append(make("span", "left-out", "no text"));
    return box;
  }

  async function block(number) {
    if (!blocks.has(number)) {
      if (blocks.size > 8) blocks.delete(blocks.keys().next().value);
      blocks.set(number, await unpack(`block-${number}`));
    }
    return blocks.get(number);
  }

  function item(i, rank) {
    const made = make("li"), details = make("details"), head = make("summary");
    head.append(make("b", "", `${rank}.`), `${index.names.problem[index.problem[i]]}, sample ${index.sample[i]}, ${groupNames[index.group[i]]}`);
    head.append(make("small", "", describe(i)));
    details.append(head);
    details.addEventListener("toggle", async () => {
      if (!details.open || details.childElementCount > 1) return;
      const [asked, excerpt] = (await block(Math.floor(i / BLOCK)))[i % BLOCK];
      if (details.childElementCount > 1) return;
      const from = `${index.names.file[index.file[i]]}:${index.line[i]}`;
      details.append(make("p", "asked", `${from}\n${asked}`), text(JSON.parse(excerpt)));
    });
    made.append(details);
    return made;
  }

  function show() {
    const { chosen, page } = state, pages = Math.max(1, Math.ceil(chosen.length / PAGE));
    element("count").textContent = `${chosen.length} of ${index.group.length} responses`;
    element("where").textContent = `${page + 1} of ${pages}`;
    element("previous").disabled = page === 0;
    element("next").disabled = page + 1 >= pages;
    const shown = chosen.slice(page * PAGE, (page + 1) * PAGE);
    element("responses").replaceChildren(...shown.map((i, j) => item(i, page * PAGE + j + 1)));
  }

  const groupNames = Array.from(document.querySelectorAll("section:first-of-type tbody th"), (head) => {
    return `${head.firstChild.textContent} (${head.lastChild.textContent})`;
  });
  element("group").replaceChildren(new Option("all", -1), ...groupNames.map((name, i) => new Option(name, i)));
  element("kind").replaceChildren(...Object.entries(kinds).map(([name, [title]]) => new Option(title, name)));
  for (const button of document.querySelectorAll("td button")) {
    button.addEventListener("click", () => {
      Object.assign(state, { group: Number(button.dataset.group), kind: button.dataset.kind, problem: "" });
      element("problem").value = "";
      choose();
      element("list").scrollIntoView({ behavior: "smooth" });
      element("list").focus({ preventScroll: true });
    });
  }
  for (const id of ["group", "kind", "order", "problem"]) {
    element(id).addEventListener(id === "problem" ? "input" : "change", (event) => {
      const value = event.target.value;
      state[id] = id === "group" ? Number(value) : id === "problem" ? value.toLowerCase() : value;
      choose();
    });
  }
  const turn = (by) => { state.page += by; show(); element("list").scrollIntoView(); };
  element("previous").addEventListener("click", () => turn(-1));
  element("next").addEventListener("click", () => turn(1));
  choose();
  if (!state.chosen.length) { state.kind = "all"; choose(); }
})();
