import { defineConfig } from 'vitest/config'

const patience = Number(process.env.NS_NET_TEST_PATIENCE ?? 1) // integration-tests/patience.ts

// biome-ignore lint/style/noDefaultExport: vitest reads the default export
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['**/*.test.ts'],
          exclude: ['integration-tests/**', 'node_modules/**', 'dist/**'],
        },
      },
      {
        test: {
          name: 'integration',
          include: ['integration-tests/**/*.test.ts'],
          globalSetup: 'integration-tests/isolation.ts',
          pool: 'forks', // setns(2) needs the test to run on its process's main thread
          testTimeout: 60_000 * patience,
          hookTimeout: 60_000 * patience,
        },
      },
    ],
  },
})
