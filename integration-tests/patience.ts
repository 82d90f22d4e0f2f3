/** How many times longer than usual things may take: more than 1 on an emulated processor (scripts/test.mjs --kernel). */
export const patience = Number(process.env.NS_NET_TEST_PATIENCE ?? 1)
