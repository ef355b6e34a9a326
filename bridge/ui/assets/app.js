"use strict";
// Keeps the page up to date by server-sent events. Without it the page is read anew.
(() => {
  const grid = document.getElementById("grid"), hover = document.getElementById("hover");
  let cells = new Map(), at = document.body.dataset.at;
  const learn = () => {
    cells = new Map();
    for (const a of grid.children) cells.set(new URL(a.href).searchParams.get("id"), a);
    grid.classList.toggle("many", cells.size > 2000);
  };
  const fetchGrid = async () => {
    const answer = await fetch("grid");
    if (answer.ok) { grid.innerHTML = await answer.text(); learn(); }
  };
  learn();
  for (const kind of ["mouseover", "focusin"])
    grid.addEventListener(kind, e => { hover.textContent = e.target.title || "\u00a0"; });
  let wait = 1000;
  const listen = () => {
    const source = new EventSource("live?at=" + at);
    source.onopen = () => { wait = 1000; at = 0; document.body.classList.remove("away"); };
    source.onmessage = e => {
      const u = JSON.parse(e.data);
      for (const [id, html] of Object.entries(u.parts || {})) document.getElementById(id).innerHTML = html;
      for (const [id, phase] of Object.entries(u.cells || {})) {
        const a = cells.get(id);
        if (a) { a.className = phase; a.title = id + ": " + phase; }
      }
      if (u.grid) fetchGrid();
    };
    source.onerror = () => {
      source.close();
      document.body.classList.add("away");
      setTimeout(listen, wait);
      wait = Math.min(2 * wait, 30000);
    };
  };
  listen();
})();
