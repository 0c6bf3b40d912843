"""Bad input by the hundred thousand: nothing may crash, nothing may trade, what is refused is kept."""
