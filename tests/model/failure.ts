/** The machines did what the reference forbids, or did not do what it demands. */
export class ModelFailure extends Error {}
