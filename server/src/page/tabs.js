/** Tabs by the ARIA pattern: arrow keys, Home and End move, and moving selects. */

/**
 * @param {HTMLElement} list the element with the role `tablist`
 * @returns {{select: (name: string) => void}} selects a tab by the id of its panel
 */
export function tabs(list) {
  const all = [...list.querySelectorAll('[role=tab]')];
  const panelOf = (tab) => document.getElementById(tab.getAttribute('aria-controls'));
  const select = (chosen) => {
    for (const tab of all) {
      tab.setAttribute('aria-selected', String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      panelOf(tab).hidden = tab !== chosen;
    }
  };
  for (const tab of all) tab.addEventListener('click', () => select(tab));
  list.addEventListener('keydown', (event) => {
    const at = all.indexOf(document.activeElement);
    const to = {
      ArrowRight: (at + 1) % all.length,
      ArrowLeft: (at + all.length - 1) % all.length,
      Home: 0,
      End: all.length - 1,
    }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    select(all[to]);
    all[to].focus();
  });
  return { select: (name) => select(all.find((tab) => panelOf(tab).id === name) ?? all[0]) };
}
