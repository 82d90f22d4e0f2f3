import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { bandwidth } from './bandwidth.ts'

serve(bandwidth)
