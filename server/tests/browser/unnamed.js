// The controls that a screen reader could not name.
[...document.querySelectorAll('button, input, select, canvas, video')]
  .filter((control) => {
    const label = control.getAttribute('aria-label') ?? '';
    const text = control.matches('button') ? control.textContent : '';
    const labels = [...(control.labels ?? [])].map((each) => each.textContent).join('');
    return !(label + text + labels).trim();
  })
  .map((control) => control.outerHTML)
