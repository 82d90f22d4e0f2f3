import { serve } from '../contract/serve.ts'
import { loopback } from './loopback.ts'

export const call = (): never => serve(loopback)
