import { serve } from '../contract/serve.ts'
import { bandwidth } from './bandwidth.ts'

export const call = (): never => serve(bandwidth)
