import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { veth } from './veth.ts'

serve(veth)
